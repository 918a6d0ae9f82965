// Charts: the values nearest to the pointer, beside it.
for (const svg of document.querySelectorAll("svg[data-points]")) {
  const points = JSON.parse(document.getElementById(svg.dataset.points).textContent);
  const at = svg.querySelector(".at");
  const told = document.createElement("div");
  told.className = "told";
  svg.parentNode.append(told);
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    let best = points[0];
    for (const point of points) if (Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
    at.setAttribute("transform", `translate(${best[0]} 0)`);
    at.style.opacity = 1;
    told.replaceChildren(...best[1].map((text) => Object.assign(document.createElement("div"), { textContent: text })));
    told.style.display = "block";
    const parent = svg.parentNode.getBoundingClientRect();
    const left = box.left - parent.left + best[0] * scale;
    told.style.left = `${Math.max(0, left + (left > parent.width / 2 ? -told.offsetWidth - 10 : 10))}px`;
    told.style.top = `${box.top - parent.top + 20}px`;
  };
  const hide = () => { told.style.display = "none"; at.style.opacity = 0; };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
