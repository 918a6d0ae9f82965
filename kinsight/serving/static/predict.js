"use strict";
const FEW = 20; // classes shown of many, unless all are asked for
let info = null;
let latest = 0; // answers that arrive after a newer question are dropped
let shown = null; // the last answer

const several = () => info.classifier.task === "multilabel";
const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

async function ask(file) {
  const mine = ++latest;
  showFile(file);
  await ready;
  if (!info || mine !== latest) return; // said already
  const why = tooLarge(file, info);
  if (why) {
    document.body.classList.remove("busy");
    return say(why, true);
  }
  document.body.classList.add("busy");
  const started = performance.now();
  try {
    const answer = await posted("/v1/predict", file, kindOf(file));
    if (mine !== latest) return;
    show(answer, performance.now() - started);
  } catch (error) {
    if (mine === latest) say(error.message, true);
  } finally {
    if (mine === latest) document.body.classList.remove("busy");
  }
}

function say(text, isError) {
  byId("message").textContent = text;
  byId("message").classList.toggle("error", Boolean(isError));
  if (!isError) return;
  shown = null;
  byId("verdict").hidden = byId("all").hidden = true;
  byId("chances").replaceChildren();
  byId("latency").textContent = "";
}

// Classes from the most probable on: name, probability, threshold (null: one class an image), whether it is said.
function entries(answer) {
  const {names, thresholds} = info.classifier;
  const said = new Set(several() ? answer.classes : [answer.class]);
  return names
    .map((name, number) => ({name, share: answer.class_probs[name], from: thresholds && thresholds[number], said: said.has(number)}))
    .sort((one, other) => other.share - one.share || other.said - one.said);
}

function show(answer, roundMs) {
  shown = entries(answer);
  showVerdict(shown);
  say(several() ? "The mark on each bar is the label's threshold: it is said from there on." : "");
  list(false);
  const parts = Object.entries(answer.took_ms).map(([step, ms]) => `${step} ${ms.toFixed(1)}`);
  byId("latency").textContent = `${roundMs.toFixed(0)} ms, in the server ${parts.join(", ")}`;
}

function showVerdict(all) {
  const said = all.filter((entry) => entry.said), verdict = byId("verdict");
  verdict.hidden = false;
  verdict.className = said.length ? "match" : "unknown";
  const names = said.map((entry) => entry.name).join(", ") || "None of the labels";
  const how = !several() ? `probability ${percent(said[0].share)}`
    : said.length ? `${said.length} of ${all.length} labels ${said.length > 1 ? "reach their thresholds" : "reaches its threshold"}`
    : `the most probable (${all[0].name}, ${percent(all[0].share)}) stays below its threshold of ${percent(all[0].from)}`;
  verdict.replaceChildren(make("strong", "", names), make("span", "", how));
}

function list(everything) {
  const part = everything ? shown : shown.filter((entry, place) => place < FEW || entry.said);
  byId("chances").replaceChildren(...part.map(bar));
  byId("all").hidden = part.length === shown.length;
  byId("all").textContent = `All ${shown.length.toLocaleString("en")} ${several() ? "labels" : "classes"}`;
}

function bar({name, share, from, said}) {
  const node = make("li", said ? "yes" : "");
  const line = make("span", "line"), track = make("span", "track"), full = make("i");
  line.append(make("b", "", name), make("span", "share", `${percent(share)}${said ? " ✓" : ""}`));
  full.style.width = `${100 * share}%`;
  track.append(full);
  if (from !== null) {
    const mark = make("u");
    mark.style.left = `${100 * from}%`;
    track.append(mark);
    line.append(make("small", "", `from ${percent(from)}`));
  }
  node.append(line, track);
  return node;
}

byId("all").onclick = () => list(true);
takeImages(ask, say);

async function start() {
  info = await served(say);
  if (!info) return;
  showPages(info);
  const {names, task, thresholds, temperature} = info.classifier;
  const known = names.length <= 8 ? `: ${names.join(", ")}` : "";
  const low = thresholds && Math.min(...thresholds), high = thresholds && Math.max(...thresholds);
  const from = !thresholds ? "" : `; each is said from ${percent(low)}${low === high ? "" : ` to ${percent(high)}`} on`;
  const warm = temperature === null ? "" : `; temperature ${Number(temperature.toPrecision(4))}`;
  byId("about").textContent = `${names.length.toLocaleString("en")} ${task === "multilabel" ? "labels, any number of them an image" : "classes, one an image"}${known}${from}${warm}; model ${info.model.name.split("/").filter(Boolean).pop()}`;
}
const ready = start();
