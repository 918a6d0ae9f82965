"use strict";
// What every page does with images: choosing, dropping, pasting and showing one.
// Texts from the server go into the page as text, never as HTML.
const byId = (id) => document.getElementById(id);
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};

function showPicture(address, free) {
  const preview = byId("preview");
  preview.onload = free ?? null;
  preview.onerror = () => { preview.hidden = true; byId("invite").hidden = false; free?.(); };
  preview.src = address;
  preview.hidden = false;
  byId("invite").hidden = true;
}

function showFile(file) {
  const address = URL.createObjectURL(file);
  showPicture(address, () => URL.revokeObjectURL(address));
}

const kindOf = (file) => (file.type.startsWith("image/") ? file.type : "application/octet-stream");

// Why a file is not worth sending; null where it is.
function tooLarge(file, info) {
  return info && file.size > info.max_upload_bytes
    ? `This file has ${(file.size / 1e6).toFixed(1)} MB; the server takes up to ${info.max_upload_bytes / 1e6} MB.` : null;
}

// The server's answer to a POST. Throws an Error whose message is for people.
async function posted(path, body, type) {
  let response;
  try {
    response = await fetch(path, {method: "POST", body, headers: {"Content-Type": type}});
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({message: `the server answered ${response.status}`}));
  if (!response.ok) throw new Error([answer.message, answer.remedy].filter(Boolean).join("; "));
  return answer;
}

// What is served; null, once that is said, where nothing answers.
async function served(say) {
  try {
    return await (await fetch("/v1/info")).json();
  } catch {
    say("The server does not answer. Is it still running?", true);
    return null;
  }
}

function showPages(info) {
  byId("pages").hidden = !(info.index && info.classifier);
}

function takeImages(ask, say) {
  byId("drop").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") byId("file").click(); });
  byId("file").onchange = (event) => { if (event.target.files.length) ask(event.target.files[0]); event.target.value = ""; };
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const file = [...event.dataTransfer.files][0];
    if (file) ask(file); else say("Only image files can be dropped here.", true);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) ask(file); else say("There is no image on the clipboard.", true);
  });
}
