// Output: the screen with its sharp pixels, the timeline of actions, timings, messages.

const $ = (id) => document.getElementById(id);
const view = $("view");
const glow = $("glow");
const trail = $("trail");
const TRAIL_LENGTH = 96;
const PARTS = [["dynamics", "dynamics"], ["decode", "decode"], ["image", "encoding"], ["queue", "queue"]];

export const hue = (code, count) => Math.round((38 + (code * 360) / Math.max(count, 1)) % 360);

/** Enlarge the screen as far as possible while each pixel of the frame covers an integer number of display pixels. */
export function fit() {
  const box = $("screen");
  const ratio = window.devicePixelRatio || 1;
  const phone = window.matchMedia("(max-width: 899px)").matches;
  const width = box.clientWidth;
  const height = phone ? Math.min(width, Math.max(200, window.innerHeight * 0.56)) : box.clientHeight;
  const limit = Math.min((width * ratio) / view.width, (height * ratio) / view.height);
  const scale = (limit >= 1 ? Math.floor(limit) : limit) / ratio;
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

const screenContext = view.getContext("2d", { alpha: false, willReadFrequently: false });
const glowContext = glow.getContext("2d", { alpha: false });

export function draw(image) {
  screenContext.drawImage(image, 0, 0, view.width, view.height);
  glowContext.drawImage(image, 0, 0, glow.width, glow.height);
}

// ---- timeline: one mark for each frame, in the color of its action

const played = [];
let dropped = 0;
let actionCount = 1;

export function addToTrail(header, actions) {
  actionCount = actions;
  if (header.time === 0) dropped = played.length = 0;
  else if (header.action === null) played.splice(Math.max(0, header.time - dropped));
  else played.push(header.action);
  if (played.length > 8 * TRAIL_LENGTH) dropped += played.splice(0, 4 * TRAIL_LENGTH).length;
  drawTrail();
}

function drawTrail() {
  const context = trail.getContext("2d");
  context.clearRect(0, 0, trail.width, trail.height);
  const width = trail.width / TRAIL_LENGTH;
  played.slice(-TRAIL_LENGTH).forEach((action, i) => {
    context.fillStyle = `hsl(${hue(action, actionCount)} 60% 64%)`;
    context.fillRect(Math.round(i * width), 0, Math.max(1, Math.ceil(width) - 1), trail.height);
  });
}

// ---- timings: medians of the last 60 frames

const WINDOW = 60;
const series = {};
let lastFrameAt = null;

function add(name, value) {
  const list = (series[name] ??= []);
  list.push(value);
  if (list.length > WINDOW) list.shift();
}

function median(name) {
  const list = [...(series[name] ?? [])].sort((a, b) => a - b);
  return list.length ? list[list.length >> 1] : null;
}

/** Add the timings of a frame. `running` is whether frames follow each other, so that pauses do not count. */
export function measure(header, running) {
  const now = performance.now();
  if (header.action === null) {
    lastFrameAt = null;
    return;
  }
  if (running && lastFrameAt !== null && now - lastFrameAt < 5000) add("interval", now - lastFrameAt);
  lastFrameAt = running ? now : null;
  if (header.timestamp !== undefined) add("latency", now - header.timestamp - header.waited);
  for (const [part] of PARTS) if (part in header.ms) add(part, header.ms[part]);
}

export const interrupt = () => { lastFrameAt = null; };

const ms = (value) => (value === null ? "–" : value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

export function showTimings() {
  const interval = median("interval");
  $("fps").textContent = interval ? (1000 / interval).toFixed(1) : "–";
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

// ---- messages

function toast(text, kind) {
  const box = $("toasts");
  while (box.children.length >= 3) box.firstChild.remove();
  const element = document.createElement("div");
  element.className = `toast ${kind}`;
  const line = document.createElement("p");
  line.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", "Dismiss");
  close.onclick = () => element.remove();
  element.append(line, close);
  box.append(element);
  setTimeout(() => element.remove(), 9000);
}

export const showError = (text) => toast(text, "error");
export const showNotice = (text) => toast(text, "notice");

/** Message for a failed request: the server's error, or that the server did not respond. */
export const reason = (error, what) =>
  error instanceof TypeError || error instanceof SyntaxError ? `${what}: the server did not respond.` : error.message;

/** Announce a text to screen readers. */
export function announce(text) {
  $("announcement").textContent = text;
}

export function showBadge(text) {
  $("badge").textContent = text ?? "";
  $("badge").hidden = !text;
}

/** Cover the screen with a text, or uncover it with null. */
export function showOverlay(text, retry = false) {
  $("overlay-text").textContent = text ?? "";
  $("overlay").hidden = !text;
  $("retry").hidden = !retry;
}

/** Show a warning below the header, or hide it with null. */
export function showBanner(text) {
  $("banner-text").textContent = text ?? "";
  $("banner").hidden = !text;
}
