// Images to start from: the prompts of the world, and uploads of the player.

import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
let world = null;
let handlers = null;

/** Show the prompts of a world. With `draw`, also show the first prompt until the first frame arrives. */
export function build(description, draw) {
  world = description;
  const add = document.createElement("button");
  add.type = "button";
  add.className = world.prompts ? "add" : "add wide";
  add.title = add.ariaLabel = "Upload an image (PNG, JPEG or WebP)";
  add.append(icon("M10 4v12M4 10h12"));
  if (!world.prompts) add.append(Object.assign(document.createElement("span"), { textContent: "Choose an image to start from" }));
  add.onclick = () => $("file").click();
  // The server id keeps the browser from reusing an image of another world on the same port.
  const thumbs = Array.from({ length: world.prompts }, (_, index) =>
    thumbnail(`api/prompts/${index}.png?server=${world.server}`, `Start from prompt ${index}`, () => handlers.start("prompt", { index })));
  $("gallery").replaceChildren(...thumbs, add);
  if (thumbs.length) {
    select(thumbs[0]);
    if (draw) thumbs[0].firstChild.onload = ({ target }) => $("view").dataset.number || view.draw(target);
  }
}

function thumbnail(source, title, start) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = button.ariaLabel = title;
  const image = new Image();
  image.src = source;
  image.alt = "";
  image.draggable = false;
  button.append(image);
  button.onclick = () => {
    select(button);
    start();
  };
  return button;
}

function select(button) {
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
  const limit = world.limits.upload_bytes;
  if (file.size > limit) {
    view.showError(`This file is too large: the limit is ${limit / 1e6} MB. Save a smaller copy first.`);
    return;
  }
  try {
    const response = await fetch(handlers.path("uploads"), { method: "POST", body: file });
    if (!response.ok) throw new Error((await response.json()).error);
    const index = Number(response.headers.get("X-Upload"));
    const button = thumbnail(URL.createObjectURL(await response.blob()), `Start from ${file.name || "your image"}`, () => handlers.start("upload", { index }));
    $("gallery").lastElementChild.before(button);
    select(button);
    button.scrollIntoView({ block: "nearest" });
  } catch (error) {
    view.showError(view.reason(error, "The image was not uploaded"));
  }
}

/** Accept images by file dialog, drag and drop, and paste. */
export function listen(on) {
  handlers = on;
  $("file").onchange = ({ target }) => {
    upload(target.files[0]);
    target.value = "";
  };
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    upload(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => upload(event.clipboardData?.files[0]));
}
