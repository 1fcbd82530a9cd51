// The pictures to start from: the world's own, and the player's.

import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
let world = null;
let on = null;

/** Shows the world's prompts; the first one stands on the screen until the first frame is there. */
export function build(about, first) {
  world = about;
  const add = document.createElement("button");
  add.type = "button";
  add.className = world.prompts ? "add" : "add wide";
  add.title = add.ariaLabel = "Upload a picture (PNG, JPEG or WebP)";
  add.append(icon("M10 4v12M4 10h12"));
  if (!world.prompts) add.append(Object.assign(document.createElement("span"), { textContent: "Choose a picture to start from" }));
  add.onclick = () => $("file").click();
  const thumbs = Array.from({ length: world.prompts }, (_, index) =>
    thumb(`api/prompts/${index}.png`, `Start from picture ${index + 1}`, () => on.start("prompt", { index })));
  $("gallery").replaceChildren(...thumbs, add);
  if (thumbs.length) {
    choose(thumbs[0]);
    if (first) thumbs[0].firstChild.onload = ({ target }) => $("view").dataset.number || view.draw(target);
  }
}

function thumb(source, title, start) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = button.ariaLabel = title;
  const image = new Image();
  image.src = source;
  image.alt = "";
  image.draggable = false;
  button.append(image);
  button.onclick = () => {
    choose(button);
    start();
  };
  return button;
}

function choose(button) {
  for (const other of $("gallery").children) other.setAttribute("aria-pressed", String(other === button));
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

async function upload(file) {
  if (!file || !world) return;
  const most = world.limits.upload_bytes;
  if (file.size > most) {
    view.complain(`This file is too large: at most ${most / 1e6} MB are taken, so save it smaller first.`);
    return;
  }
  try {
    const answer = await fetch(on.path("uploads"), { method: "POST", body: file });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const index = Number(answer.headers.get("X-Upload"));
    const button = thumb(URL.createObjectURL(await answer.blob()), `Start from ${file.name || "your picture"}`, () => on.start("upload", { index }));
    $("gallery").lastElementChild.before(button);
    choose(button);
    button.scrollIntoView({ block: "nearest" });
  } catch (error) {
    view.complain(view.reason(error, "The picture could not be sent"));
  }
}

/** Takes pictures by button, by drag and drop, and by paste. */
export function listen(handlers) {
  on = handlers;
  $("file").onchange = ({ target }) => {
    upload(target.files[0]);
    target.value = "";
  };
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    upload(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => upload(event.clipboardData?.files[0]));
}
