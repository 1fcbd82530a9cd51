// What is seen: the screen with its crisp pixels, the trail of actions, the figures.

const $ = (id) => document.getElementById(id);
const view = $("view");
const glow = $("glow");
const trail = $("trail");
const TRAIL = 96;
const PARTS = [["dynamics", "dynamics"], ["decode", "decode"], ["image", "picture"], ["queue", "queue"]];

export const hue = (index, count) => Math.round((38 + (index * 360) / Math.max(count, 1)) % 360);

/** Gives the screen the largest size at which every pixel of the world covers a whole number of the display's. */
export function fit() {
  const box = $("screen");
  const ratio = window.devicePixelRatio || 1;
  const phone = window.matchMedia("(max-width: 899px)").matches;
  const width = box.clientWidth;
  const height = phone ? Math.min(width, Math.max(200, window.innerHeight * 0.56)) : box.clientHeight;
  const most = Math.min((width * ratio) / view.width, (height * ratio) / view.height);
  const scale = (most >= 1 ? Math.floor(most) : most) / ratio;
  const size = { width: `${view.width * scale}px`, height: `${view.height * scale}px` };
  Object.assign(view.style, size);
  Object.assign(glow.style, size);
  trail.width = Math.round(view.width * scale * ratio);
  trail.style.width = size.width;
  drawTrail();
}

export function resize(width, height) {
  view.width = width;
  view.height = height;
  glow.width = Math.max(1, Math.round((8 * width) / Math.max(width, height)));
  glow.height = Math.max(1, Math.round((8 * height) / Math.max(width, height)));
  fit();
}

const pen = view.getContext("2d", { alpha: false, willReadFrequently: false });
const light = glow.getContext("2d", { alpha: false });

export function draw(picture) {
  pen.drawImage(picture, 0, 0, view.width, view.height);
  light.drawImage(picture, 0, 0, glow.width, glow.height);
}

// ---- the trail: one mark for each frame played, in the colour of its action

const played = [];
let dropped = 0;
let colours = 1;

export function trailFrame(header, actions) {
  colours = actions;
  if (header.time === 0) dropped = played.length = 0;
  else if (header.action === null) played.splice(Math.max(0, header.time - dropped));
  else played.push(header.action);
  if (played.length > 8 * TRAIL) dropped += played.splice(0, 4 * TRAIL).length;
  drawTrail();
}

function drawTrail() {
  const ink = trail.getContext("2d");
  ink.clearRect(0, 0, trail.width, trail.height);
  const wide = trail.width / TRAIL;
  const last = played.slice(-TRAIL);
  last.forEach((action, i) => {
    ink.fillStyle = `hsl(${hue(action, colours)} 60% 64%)`;
    ink.fillRect(Math.round(i * wide), 0, Math.max(1, Math.ceil(wide) - 1), trail.height);
  });
}

// ---- figures: medians of the last 60 frames

const LAST = 60;
const series = {};
let before = null;

function note(name, value) {
  const list = (series[name] ??= []);
  list.push(value);
  if (list.length > LAST) list.shift();
}

function median(name) {
  const list = [...(series[name] ?? [])].sort((a, b) => a - b);
  return list.length ? list[list.length >> 1] : null;
}

/** Notes a frame's figures. `running` says whether frames follow one another, so that pauses are not counted. */
export function measure(header, running) {
  const now = performance.now();
  if (header.action === null) {
    before = null;
    return;
  }
  if (running && before !== null && now - before < 5000) note("gap", now - before);
  before = running ? now : null;
  if (header.stamp !== undefined) note("latency", now - header.stamp - header.waited);
  for (const [part] of PARTS) if (part in header.ms) note(part, header.ms[part]);
}

export const rest = () => { before = null; };

const ms = (value) => (value === null ? "–" : value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

export function showFigures() {
  const gap = median("gap");
  $("fps").textContent = gap ? (1000 / gap).toFixed(1) : "–";
  $("latency").textContent = ms(median("latency"));
  const parts = PARTS.map(([part, name], i) => ({ name, value: median(part), tone: `tone${i}` }));
  $("budget").replaceChildren(...parts.filter((p) => p.value).map((p) => {
    const bar = document.createElement("i");
    bar.className = p.tone;
    bar.style.flexGrow = p.value;
    return bar;
  }));
  $("timings").replaceChildren(...parts.map((p) => {
    const row = document.createElement("div");
    const dot = document.createElement("i");
    dot.className = p.tone;
    const name = document.createElement("dt");
    name.textContent = p.name;
    const value = document.createElement("dd");
    value.textContent = ms(p.value);
    row.append(dot, name, value);
    return row;
  }));
}

// ---- words

export function complain(text) {
  const box = $("toasts");
  while (box.children.length >= 3) box.firstChild.remove();
  const toast = document.createElement("div");
  toast.className = "toast";
  const line = document.createElement("p");
  line.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", "Dismiss");
  close.onclick = () => toast.remove();
  toast.append(line, close);
  box.append(toast);
  setTimeout(() => toast.remove(), 9000);
}

/** What to say when a request failed: the server's own sentence, or that it did not answer. */
export const reason = (error, what) =>
  error instanceof TypeError || error instanceof SyntaxError ? `${what}: the server did not answer.` : error.message;

export function say(text) {
  $("say").textContent = text;
}

export function badge(text) {
  $("badge").textContent = text ?? "";
  $("badge").hidden = !text;
}

export function curtain(text, retry = false) {
  $("curtain-text").textContent = text ?? "";
  $("curtain").hidden = !text;
  $("retry").hidden = !retry;
}
