"use strict";
const HIDDEN_COLUMNS = new Set(["rank", "row", "id", "label", "uri", "similarity", "accepted", "evidence", "character", "also"]);
let info = null;
let by = null; // what an answer lists: "classes" or "items"; null: as the server is set
let repeat = null; // asks the last question again
let timer = 0;
const files = []; // searched with so far, for going back
let latest = 0; // answers that arrive after a newer question are dropped

// ---- asking

async function ask(body, type, shown) {
  const mine = ++latest;
  clearTimeout(timer);
  repeat = () => ask(body, type, shown);
  document.body.classList.add("busy");
  const started = performance.now();
  try {
    const answer = await posted(`/v1/search?k=${info ? info.k : 12}${by ? `&by=${by}` : ""}`, body, type);
    if (mine !== latest) return;
    show(answer, performance.now() - started, shown);
  } catch (error) {
    if (mine === latest) say(error.message, true);
  } finally {
    if (mine === latest) document.body.classList.remove("busy");
  }
}

function askFile(file, known) {
  select("image");
  showFile(file);
  if (known === undefined) history.pushState({kind: "file", number: files.push(file) - 1}, "", "#");
  const why = tooLarge(file, info);
  if (why) {
    latest++;
    document.body.classList.remove("busy");
    return say(why, true);
  }
  return ask(file, kindOf(file));
}

function askItem(id, push) {
  if (push) history.pushState({kind: "item"}, "", `#${encodeURIComponent(JSON.stringify(id))}`);
  select("image");
  return ask(JSON.stringify({id}), "application/json", id);
}

// ---- showing

function say(text, isError) {
  byId("message").textContent = text;
  byId("message").classList.toggle("error", Boolean(isError));
  if (isError) { byId("verdict").hidden = true; byId("results").replaceChildren(); byId("latency").textContent = ""; }
}

function alsoOf(item) {
  return item.also ? `also ${item.also}` : "";
}

function nameOf(item) {
  return item.character ? `${item.character}  ${item.label}` : item.label || String(item.id);
}

function show(answer, roundMs, id) {
  const results = answer.results;
  say(!results.length ? "Nothing is there to be found."
    : id === undefined ? `Click a ${answer.by === "classes" ? "class" : "neighbour"} to search on from it.` : `Neighbours of ${nameOf(answer.query)} of the index.`);
  if (id !== undefined) showPicture(`/v1/items/${answer.query.row}/picture?side=384&version=${answer.version}`);
  showVerdict(answer, results[0]);
  byId("results").replaceChildren(...results.map((item) => card(item, answer.version)));
  const parts = Object.entries(answer.took_ms).filter(([step]) => step !== "total").map(([step, ms]) => `${step} ${ms.toFixed(1)}`);
  byId("latency").textContent = `${roundMs.toFixed(0)} ms, of them ${answer.took_ms.total.toFixed(1)} in the server (${parts.join(", ")})`;
}

function showVerdict(answer, best) {
  const verdict = byId("verdict");
  verdict.hidden = !best || answer.accepted === null;
  if (verdict.hidden) return;
  verdict.className = answer.accepted ? "match" : "unknown";
  const limit = answer.threshold.toFixed(3), nearest = answer.by === "classes" ? "first" : "nearest";
  verdict.replaceChildren(
    make("strong", "", answer.accepted ? nameOf(best) : "Unknown"),
    make("span", "", answer.accepted && !best.accepted
      ? [alsoOf(best), `similarity ${best.similarity.toFixed(3)}, preferred to a twin with ${best.evidence.most.toFixed(3)}; accepted from ${limit} on`].filter(Boolean).join("; ")
      : answer.accepted ? [alsoOf(best), `similarity ${best.similarity.toFixed(3)}, accepted from ${limit} on`].filter(Boolean).join("; ")
      : `the ${nearest} (${nameOf(best)}) has ${best.similarity.toFixed(3)}; accepted from ${limit} on`));
}

function card(item, version) {
  const node = make("li", item.accepted ? "yes" : "");
  const button = make("button");
  button.title = [item.label, item.id, item.uri].filter((part) => part !== null && part !== "").join("\n");
  const frame = make("span", "frame");
  const image = make("img");
  image.alt = "";
  image.loading = "lazy";
  image.src = `/v1/items/${item.row}/picture?side=192&version=${version}`;
  image.onerror = () => frame.replaceChildren(make("i", "", "no picture"));
  frame.append(image);
  const lift = item.evidence?.preferred ? ` + ${info.prefer.by}` : "";
  const similarity = make("small", "similarity", `${item.similarity.toFixed(3)}${lift}${item.accepted ? " ✓" : ""}`);
  if (lift) similarity.title = `ranks as if ${info.prefer.by} more similar: ${info.prefer.column}`;
  const also = item.also ? [make("small", "also", alsoOf(item))] : [];
  for (const line of also) line.title = "further characters of the same form";
  const more = Object.entries(item).filter(([key, value]) => !HIDDEN_COLUMNS.has(key) && key !== info?.prefer?.column && value !== null && value !== "")
    .map(([key, value]) => { const line = make("small", "more", String(value)); line.title = `${key.replaceAll("_", " ")}: ${value}`; return line; });
  button.append(frame, make("b", "", nameOf(item)), ...also, similarity, ...evidence(item), ...more.slice(0, 3));
  button.onclick = () => { askItem(item.id, true); byId("ask").scrollIntoView({behavior: "smooth", block: "nearest"}); };
  node.append(button);
  return node;
}

function evidence(item) {
  if (!item.evidence) return [];
  const {best, items, of, among} = item.evidence;
  const line = make("small", "", `${items} of ${of} near`);
  line.title = `${items} of its ${of} pictures are among the ${among} nearest; the nearest has ${best.toFixed(3)}`;
  return [line];
}

// ---- drawing: strokes are kept as lines, so that size, place and width on the pad carry no meaning

const pad = byId("pad"), pen = pad.getContext("2d");
const WIDTH = 0.07, MARGIN = 0.14, SENT = 256;
let strokes = [], drawing = null;

function paint(context, lines, width) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#111";
  context.lineWidth = width;
  for (const line of lines) {
    context.beginPath();
    context.moveTo(line[0][0], line[0][1]);
    for (const [x, y] of line.length > 1 ? line : [line[0], line[0]]) context.lineTo(x, y);
    context.stroke();
  }
}

function repaint() {
  pen.clearRect(0, 0, pad.width, pad.height);
  paint(pen, strokes, pad.width * 0.045);
}

function place(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) * pad.width / box.width, (event.clientY - box.top) * pad.height / box.height];
}

pad.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  pad.setPointerCapture(event.pointerId);
  drawing = [place(event)];
  strokes.push(drawing);
  repaint();
  clearTimeout(timer);
});
pad.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  for (const part of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) drawing.push(place(part));
  repaint();
});
for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => {
  if (!drawing) return;
  drawing = null;
  timer = setTimeout(askDrawing, 150); // the next stroke may follow
});

function askDrawing() {
  if (!strokes.length) return;
  const points = strokes.flat();
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const left = Math.min(...xs), top = Math.min(...ys);
  const wide = Math.max(...xs) - left, high = Math.max(...ys) - top;
  const room = SENT * (1 - 2 * MARGIN) - SENT * WIDTH;
  const scale = room / Math.max(wide, high, 40);
  const sheet = document.createElement("canvas");
  sheet.width = sheet.height = SENT;
  const context = sheet.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SENT, SENT);
  const moved = strokes.map((line) => line.map(([x, y]) =>
    [SENT / 2 + (x - left - wide / 2) * scale, SENT / 2 + (y - top - high / 2) * scale]));
  paint(context, moved, SENT * WIDTH);
  // Not toBlob, which browsers put off until they are idle: up to a second.
  const bytes = Uint8Array.from(atob(sheet.toDataURL("image/png").split(",")[1]), (letter) => letter.charCodeAt(0));
  if (history.state === null && !location.hash) history.replaceState({kind: "draw"}, "");
  else if (history.state?.kind !== "draw") history.pushState({kind: "draw"}, "", "#");
  ask(new Blob([bytes]), "image/png");
}

byId("undo").onclick = () => { strokes.pop(); repaint(); strokes.length ? askDrawing() : reset(); };
byId("clear").onclick = () => { strokes = []; repaint(); reset(); };

function reset() {
  latest++;
  repeat = null;
  clearTimeout(timer);
  document.body.classList.remove("busy");
  byId("verdict").hidden = true;
  byId("results").replaceChildren();
  byId("latency").textContent = "";
  say("Draw something, or drop, paste or choose an image.");
}

// ---- tabs, files, history

function select(name) {
  for (const tab of ["draw", "image"]) {
    byId(tab).hidden = tab !== name;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
  }
}
byId("tab-draw").onclick = () => select("draw");
byId("tab-image").onclick = () => select("image");
takeImages(askFile, say);
addEventListener("popstate", fromAddress);

for (const name of ["classes", "items"]) byId(`by-${name}`).onclick = () => {
  by = name;
  showBy();
  if (repeat && byId("results").children.length) repeat();
};

function showBy() {
  for (const name of ["classes", "items"]) byId(`by-${name}`).setAttribute("aria-pressed", String(by === name));
}

function fromAddress() {
  let id;
  try { id = JSON.parse(decodeURIComponent(location.hash.slice(1))); } catch { id = undefined; }
  if (typeof id === "number" || typeof id === "string") return askItem(id, false);
  const state = history.state;
  if (state?.kind === "file" && files[state.number]) return askFile(files[state.number], true);
  select("draw");
  if (strokes.length) askDrawing(); else reset();
}

async function start() {
  select("draw");
  info = await served(say);
  if (!info) return;
  showPages(info);
  const classes = info.index?.classes ? ` of ${info.index.classes.toLocaleString("en")} classes` : "";
  const index = info.index ? `${info.index.items.toLocaleString("en")} images${classes} in the index` : "no index: start the server with --index";
  const {value, fmr, chance_matches: chance} = info.threshold;
  const limit = value === null ? `nothing is marked as accepted: ${info.threshold.source}` : `accepted from similarity ${value.toFixed(3)} on` +
    (fmr ? `: ${fmr} of comparisons with other classes reach it, about ${chance < 1 ? chance.toPrecision(1) : Math.round(chance)} of these images by chance` : "");
  by = info.by;
  showBy();
  byId("by").hidden = !info.index || info.index.classes === 0 || info.index.classes === info.index.items;
  const prefer = info.prefer ? `; ${info.prefer.column} classes rank as if ${info.prefer.by} more similar` : "";
  byId("about").textContent = `${index}; ${limit}${prefer}; model ${info.model.name.split("/").filter(Boolean).pop()}`;
  if (!info.index) return say("This server has no index to search in.", true);
  if (location.hash) fromAddress();
}
start();
