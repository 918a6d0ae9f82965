// The embedding map: points on a canvas; pictures are decoded where somebody looks.
(() => {
  const element = (name) => document.getElementById(name);
  const canvas = element("map-canvas");
  if (!canvas) return;
  const about = JSON.parse(element("map-about").textContent);
  const bytes = (name) => Uint8Array.from(atob(element(name).textContent), (char) => char.charCodeAt(0));
  const places = new Uint16Array(bytes("map-places").buffer);
  const labels = new Uint32Array(bytes("map-labels").buffer);
  const flags = bytes("map-flags");
  const pictures = new Int32Array(bytes("map-pictures").buffer);
  const { count, classes } = about;
  const context = canvas.getContext("2d");
  const card = element("map-card"), search = element("map-search"), colour = element("map-colour");
  const sizes = new Uint32Array(classes.length);
  for (const label of labels) sizes[label]++;

  // ---- looks
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const isDark = () => dark.matches && !printing;
  const order = new Uint32Array(classes.length);  // classes by size: the largest get the colours farthest apart
  [...sizes.keys()].sort((a, b) => sizes[b] - sizes[a] || a - b).forEach((label, place) => { order[label] = place; });
  const hues = (label) => {
    const place = order[label];
    const hue = (place * 137.508) % 360, tone = Math.floor(place / 9) % 3;
    return isDark() ? `hsl(${hue} ${[70, 55, 85][tone]}% ${[66, 54, 76][tone]}%)`
                    : `hsl(${hue} ${[68, 52, 80][tone]}% ${[44, 34, 56][tone]}%)`;
  };
  const verdict = () => isDark() ? ["#8a92a0", "#ff7376", "#3f8f68", "#596273"] : ["#8a92a0", "#d03438", "#7cc4a0", "#b9c0cc"];
  let chosen = null;  // the classes that are highlighted, null: all

  // ---- view: centre in 0..65535, scale in pixels per unit
  const view = { x: 32767.5, y: 32767.5, scale: 0.01 };
  let width = 0, height = 0, least = 0.01, waiting = false;
  const fit = () => {
    width = canvas.clientWidth; height = canvas.clientHeight;
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
    context.setTransform(dense, 0, 0, dense, 0, 0);
    let left = 65535, right = 0, top = 65535, bottom = 0;
    for (let i = 0; i < count; i++) {
      left = Math.min(left, places[2 * i]); right = Math.max(right, places[2 * i]);
      top = Math.min(top, places[2 * i + 1]); bottom = Math.max(bottom, places[2 * i + 1]);
    }
    least = Math.min((width - 24) / Math.max(right - left, 1), (height - 24) / Math.max(bottom - top, 1));
    least = Math.max(Math.min(least, 0.2), 1e-4);
  };
  const everything = () => { view.x = view.y = 32767.5; view.scale = least; };
  const toX = (x) => (x - view.x) * view.scale + width / 2;
  const toY = (y) => (y - view.y) * view.scale + height / 2;
  const radius = () => Math.min(7, (count > 20000 ? 1.1 : count > 4000 ? 1.5 : count > 500 ? 2.5 : 4) * Math.sqrt(view.scale / least));

  const draw = () => {
    waiting = false;
    context.clearRect(0, 0, width, height);
    const r = radius(), side = 2 * r, round = r >= 2.5;
    const byClass = colour.value === "class", shades = verdict();
    const put = (i) => {
      const x = toX(places[2 * i]), y = toY(places[2 * i + 1]);
      if (x < -r || y < -r || x > width + r || y > height + r) return;
      if (round) { context.beginPath(); context.arc(x, y, r, 0, 6.2832); context.fill(); }
      else context.fillRect(x - r, y - r, side, side);
    };
    if (chosen) {
      context.fillStyle = isDark() ? "#39404b" : "#dfe3ea";
      for (let i = 0; i < count; i++) if (!chosen.has(labels[i])) put(i);
    }
    let last = -1;
    for (const i of byClass ? sorted : mistakesLast) {
      if (chosen && !chosen.has(labels[i])) continue;
      const key = byClass ? labels[i] : flags[i];
      if (key !== last) { context.fillStyle = byClass ? hues(key) : shades[key]; last = key; }
      put(i);
    }
    if (pinned >= 0) ring(pinned); else if (hovered >= 0) ring(hovered);
  };
  const ring = (i) => {
    context.strokeStyle = isDark() ? "#fff" : "#000"; context.lineWidth = 2;
    context.beginPath(); context.arc(toX(places[2 * i]), toY(places[2 * i + 1]), radius() + 4, 0, 6.2832); context.stroke();
  };
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const sorted = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => labels[a] - labels[b] || a - b);
  const priority = [1, 3, 2, 0];  // unknown, miss, hit, gallery: what is drawn last lies on top
  const mistakesLast = Uint32Array.from(sorted).sort((a, b) => priority[flags[a]] - priority[flags[b]] || a - b);

  // ---- the card with an item's picture
  let hovered = -1, pinned = -1, files = null;
  const sheets = new Map();
  const sheet = (number) => {
    if (!sheets.has(number)) {
      const image = new Image();
      sheets.set(number, new Promise((done) => { image.onload = () => done(image); image.onerror = () => done(null); }));
      image.src = element(`map-sheet-${number}`).textContent;
    }
    return sheets.get(number);
  };
  const readFiles = async () => {
    if (files || !("DecompressionStream" in window)) return;
    const stream = new Blob([bytes("map-files")]).stream().pipeThrough(new DecompressionStream("gzip"));
    files = JSON.parse(await new Response(stream).text());
  };
  const words = ["", "✗ its most similar item is of another class", "✓ its most similar item is of its class", "in the gallery"];
  const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const show = async (i) => {
    if (i < 0) { card.style.display = "none"; return; }
    const shown = document.createElement("canvas");
    const number = pictures[i];
    const parts = [line("b", classes[labels[i]]), line("small", words[flags[i]])];
    if (files && files[i]) parts.push(line("small", files[i]));
    if (number >= 0) parts.unshift(shown);
    card.replaceChildren(...parts);
    card.style.display = "block";
    place(i);
    if (number >= 0) {
      const image = await sheet(Math.floor(number / about.perSheet));
      if (!image || (pinned >= 0 ? pinned : hovered) !== i) return;
      const at = number % about.perSheet, side = about.side;
      shown.width = shown.height = side;
      shown.getContext("2d").drawImage(image, (at % 16) * side, Math.floor(at / 16) * side, side, side, 0, 0, side, side);
    }
    if (!files) { await readFiles(); if (files && (pinned >= 0 ? pinned : hovered) === i) show(i); }
  };
  const place = (i) => {
    const x = toX(places[2 * i]), y = toY(places[2 * i + 1]);
    const left = x > width / 2 ? x - card.offsetWidth - 14 : x + 14;
    card.style.left = `${Math.max(4, Math.min(width - card.offsetWidth - 4, left))}px`;
    card.style.top = `${Math.max(4, Math.min(height - card.offsetHeight - 4, y - 40))}px`;
  };
  const nearest = (x, y, reach) => {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (chosen && !chosen.has(labels[i])) continue;
      const dx = toX(places[2 * i]) - x, dy = toY(places[2 * i + 1]) - y, far = dx * dx + dy * dy;
      if (far < least) { least = far; best = i; }
    }
    return best;
  };

  // ---- pointers
  const pointers = new Map();
  let moved = 0, apart = 0;
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const zoom = (factor, x = width / 2, y = height / 2) => {
    const next = Math.max(least * 0.5, Math.min(least * 400, view.scale * factor));
    view.x += (x - width / 2) * (1 / view.scale - 1 / next);
    view.y += (y - height / 2) * (1 / view.scale - 1 / next);
    view.scale = next;
    if (pinned >= 0) place(pinned);
    redraw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    moved = 0;
    if (pointers.size === 2) { const [a, b] = [...pointers.values()]; apart = Math.hypot(a[0] - b[0], a[1] - b[1]); }
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), before = pointers.get(event.pointerId);
    if (!before) {
      if (pinned >= 0) return;
      const found = nearest(...now, 14);
      if (found !== hovered) { hovered = found; show(found); redraw(); }
      return;
    }
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    pointers.set(event.pointerId, now);
    if (pointers.size === 1 && moved > 4) {
      view.x -= (now[0] - before[0]) / view.scale; view.y -= (now[1] - before[1]) / view.scale;
    } else if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], far = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (apart) zoom(far / apart, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      apart = far;
    }
    if (pinned >= 0) place(pinned);
    redraw();
  });
  const release = (event) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup" && moved <= 4) {
      const found = nearest(...at(event), event.pointerType === "touch" ? 24 : 14);
      pinned = found === pinned ? -1 : found;
      hovered = found;
      show(found);
      redraw();
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { if (pinned < 0) { hovered = -1; show(-1); redraw(); } });
  // A page that is scrolled past must not be caught: the wheel zooms only after a click, or with Ctrl.
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...at(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = 40 / view.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; }
    else if (event.key === "+") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "Escape") { pinned = hovered = -1; show(-1); canvas.blur(); }
    else return;
    event.preventDefault();
    redraw();
  });
  element("map-in").onclick = () => zoom(1.6);
  element("map-out").onclick = () => zoom(1 / 1.6);
  element("map-all").onclick = () => { everything(); redraw(); };

  // ---- classes by name
  const legend = element("map-legend"), counted = element("map-count");
  const filter = () => {
    const text = search.value.trim().toLowerCase();
    chosen = null;
    if (text) chosen = new Set([...classes.keys()].filter((label) => classes[label].toLowerCase().includes(text)));
    const shown = chosen ? [...chosen] : [...classes.keys()];
    let items = 0;
    for (const label of shown) items += sizes[label];
    counted.textContent = !shown.length ? "no class has this in its name" : `${items.toLocaleString("en")} items, ${shown.length.toLocaleString("en")} classes`;
    shown.sort((a, b) => sizes[b] - sizes[a] || a - b);
    const names = shown.slice(0, 16).map((label) => {
      const button = line("button", `${classes[label]} (${sizes[label].toLocaleString("en")})`);
      button.style.setProperty("--own", hues(label));
      button.onclick = () => { search.value = search.value === classes[label] ? "" : classes[label]; filter(); };
      return button;
    });
    if (shown.length > 16) names.push(line("span", `and ${(shown.length - 16).toLocaleString("en")} more`));
    legend.replaceChildren(...names);
    pinned = hovered = -1;
    show(-1);
    redraw();
  };
  search.addEventListener("input", filter);
  colour.addEventListener("input", redraw);
  dark.addEventListener("change", filter);

  // ---- now, and whenever there is another size or medium
  const again = () => { fit(); redraw(); };
  fit(); everything(); filter(); draw();
  let before = least;
  new ResizeObserver(() => { const whole = view.scale === before; again(); if (whole) view.scale = least; before = least; }).observe(canvas);
  const forPrint = (on) => { printing = on; fit(); draw(); };
  addEventListener("beforeprint", () => forPrint(true));
  addEventListener("afterprint", () => forPrint(false));
})();
