// The page: connects the controls to the server.

import { Connection } from "./connection.js";
import * as gallery from "./gallery.js";
import { HeldInputs, actionOf, digitKey, keyLabel, keyNames, keysOf } from "./keys.js";
import { defaultName, nameInput, saveName } from "./names.js";
import * as recording from "./recording.js";
import * as settings from "./settings.js";
import * as view from "./view.js";

const $ = (id) => document.getElementById(id);

let world = null;
let keys = [];
let lastAction = 0;
let paused = false;
let renaming = false;
let idleAction = null;

// ---- playing

const held = new HeldInputs((action, pressed) => {
  if (paused) {
    if (pressed && action !== null) playOnce(action);
    highlight(action);
    return;
  }
  play();
});

/** Send the held action, or the idle action if none is held. */
function play() {
  const action = paused || document.hidden ? null : (held.action ?? idleAction);
  highlight(held.action);
  if (action === null) {
    connection.send("release");
    view.interrupt();
  } else {
    if (held.action !== null) lastAction = action;
    connection.send("hold", { action, timestamp: performance.now() });
  }
}

function playOnce(action) {
  lastAction = action;
  connection.send("step", { action, timestamp: performance.now() });
}

function highlight(action) {
  for (const button of $("actions").children) button.classList.toggle("on", Number(button.dataset.action) === action);
}

function setPaused(on) {
  paused = on;
  $("pause").setAttribute("aria-pressed", String(on));
  view.showBadge(on ? "Paused: each key press plays one frame" : null);
  play();
}

function restart(type, fields = {}) {
  view.interrupt();
  connection.send(type, fields);
}

const connection = new Connection({
  welcome(message) {
    showWorld(message.world);
    view.showOverlay(null);
    held.sources.clear();
    if (idleAction !== null) play();
    if (paused) setPaused(true);
  },
  settings: settings.show,
  recording: recording.show,
  error(message) {
    view.showError(message.text);
  },
  bye(message) {
    view.showOverlay(message.text, true);
  },
  lost() {
    view.showOverlay("Connection lost. Reconnecting …");
  },
  frame(header, bitmap) {
    view.draw(bitmap);
    const running = !paused && (held.action !== null || idleAction !== null);
    view.measure(header, running);
    view.addToTrail(header, world.actions.length);
    $("undo").disabled = header.undo === 0;
    $("seed").value = header.seed;
    recording.show(header.recording);
    const data = $("view").dataset;
    if (!data.number) view.announce("The world is ready.");
    Object.assign(data, { number: header.number, time: header.time, action: header.action ?? "" });
  },
});

setInterval(view.showTimings, 250);

// ---- building the page

function showWorld(description) {
  const previous = world;
  world = description;
  held.keys = keys = keysOf(world.actions);
  document.title = `${world.name} · Djinn`;
  $("name").textContent = world.name;
  $("world").textContent = `${world.width}×${world.height} pixels, ${world.actions.length} latent actions, context of ${world.context_frames} frames`;
  showTraining(world.training);
  if (idleAction !== null && idleAction >= world.actions.length) idleAction = null;
  lastAction = Math.min(lastAction, world.actions.length - 1);
  settings.limit(world);
  view.resize(world.width, world.height);
  buildActions();
  gallery.build(world, previous === null);
  buildHelp();
  view.fit();
  if (previous !== null && previous.name !== world.name) view.showNotice(`The server now plays another world: ${world.name}.`);
}

function showTraining({ text, warning, tokenizer_steps, dynamics_steps }) {
  const count = (steps) => steps.toLocaleString("en");
  const parts = [
    tokenizer_steps === null ? null : `tokenizer ${count(tokenizer_steps)}`,
    dynamics_steps === null ? null : `dynamics ${count(dynamics_steps)}`,
  ].filter((part) => part !== null);
  $("training").textContent = (parts.length ? `Training steps: ${parts.join(", ")}. ` : "") + text;
  view.showBanner(warning ? text : null);
}

function buildActions() {
  const count = world.actions.length;
  const rows = Math.ceil(count / 8);
  $("actions").style.setProperty("--desk-columns", Math.ceil(count / rows));
  $("actions").style.setProperty("--phone-columns", count <= 3 ? count : count % 3 === 0 && count < 9 ? 3 : 4);
  $("actions").replaceChildren(...world.actions.map(actionTile));
  const options = world.actions.map((action) => new Option(`play ${action.name}`, action.index));
  $("idle").replaceChildren(new Option("wait", ""), ...options);
  $("idle").value = idleAction ?? "";
}

function actionTile(action) {
  const code = action.index;
  const tile = document.createElement(renaming ? "div" : "button");
  tile.className = "action";
  tile.dataset.action = code;
  tile.style.setProperty("--hue", view.hue(code, world.actions.length));
  const digit = digitKey(code);
  const labels = [...(digit === null ? [] : [digit]), ...keys[code].map(keyLabel)];
  const caps = document.createElement("span");
  caps.className = "caps";
  if (digit === null) caps.append(Object.assign(document.createElement("span"), { className: "code", textContent: code }));
  caps.append(...labels.map(keyCap));
  if (renaming) {
    const options = { maxLength: world.limits.name, save: (name) => rename(action, name), done: () => setRenaming(false) };
    tile.append(caps, nameInput(action, options));
    return tile;
  }
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = action.name;
  tile.type = "button";
  tile.title = `Action ${code}${action.name === defaultName(code) ? "" : `: ${action.name}`}. Hold to play${labels.length ? ` (key ${labels.join(" or ")})` : ""}.`;
  tile.append(caps, name);
  onHold(tile, () => held.press(`button:${code}`, code), () => held.release(`button:${code}`));
  return tile;
}

/** Show inputs for the names of the actions, or the buttons. */
function setRenaming(on) {
  renaming = on;
  held.clear();
  $("rename").setAttribute("aria-pressed", String(on));
  buildActions();
  if (on) $("actions").querySelector("input").focus();
}

async function rename(action, name) {
  try {
    const result = await saveName(action.index, name);
    world.actions = result.actions;
    if (result.warning) view.showError(result.warning);
    else view.announce("The name is saved.");
  } catch (error) {
    view.showError(view.reason(error, "The name was not saved"));
  }
  if (!renaming) buildActions();
}

function keyCap(text) {
  const element = document.createElement("kbd");
  element.textContent = text;
  return element;
}

/** Call `down` and `up` when a button is pressed and released by mouse, touch, pen, Enter or Space. */
function onHold(button, down, up) {
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    down();
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(name, up);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && !event.repeat) down();
  });
  button.addEventListener("keyup", (event) => {
    if (event.key === "Enter" || event.key === " ") up();
  });
}

function buildHelp() {
  const last = Math.min(world.actions.length, 10) - 1;
  const named = keys.flat().filter((key) => !key.includes("+"));
  const rows = [[["0", "–", digitKey(last)], "play the action with this number; hold to continue"]];
  if (named.length) rows.push([[...new Set(named.map(keyLabel))], "play the action whose button shows the key"]);
  if (named.some((key) => key.startsWith("arrow"))) rows.push([["W", "A", "S", "D"], "same as the arrow keys"]);
  rows.push([["R"], "return to the start"], [["U"], "undo one frame; hold to rewind"], [["P"], "pause; each key press plays one frame"]);
  rows.push([["N"], "play one frame with the last action"], [["C"], "start or stop recording"], [["E"], "rename actions"], [["H"], "help"]);
  $("help-keys").replaceChildren(...rows.map(([caps, text]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    term.append(...caps.map((key) => (key === "–" ? "–" : keyCap(key))));
    const description = document.createElement("dd");
    description.textContent = text;
    row.append(term, description);
    return row;
  }));
}

// ---- buttons and keys

$("idle").onchange = ({ target }) => {
  idleAction = target.value === "" ? null : Number(target.value);
  play();
};
$("reset").onclick = () => restart("reset");
$("pause").onclick = () => setPaused(!paused);
$("rename").onclick = () => world && setRenaming(!renaming);
$("step").onclick = () => playOnce(lastAction);
$("help-open").onclick = () => $("help").showModal();
$("banner-close").onclick = () => view.showBanner(null);
$("retry").onclick = () => {
  view.showOverlay("Connecting …");
  connection.open();
};
const undo = () => $("undo").disabled || connection.send("undo");
let rewindTimer = null;
const stopRewind = () => {
  clearTimeout(rewindTimer);
  rewindTimer = null;
};
const rewind = (wait) => {
  if ($("undo").disabled) return stopRewind(); // at the start; a disabled button gets no pointerup event
  undo();
  rewindTimer = setTimeout(() => rewind(90), wait);
};
onHold($("undo"), () => rewindTimer ?? rewind(400), stopRewind);

const SHORTCUTS = { r: "reset", p: "pause", n: "step", c: "record", e: "rename", h: "help-open", "?": "help-open" };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !world) return;
  const target = event.target;
  if (target.matches("input[type=number], input[type=text], select")) return;
  const action = actionOf(event, keys);
  const key = event.key.toLowerCase();
  if (target.matches("input[type=range]") && key.startsWith("arrow")) return;
  if (target.matches("button") && (key === " " || key === "enter")) return;
  if (action !== null) {
    event.preventDefault();
    if (!event.repeat) held.press(`key:${event.code}`, action, keyNames(event));
  } else if (key === "u" || key === "backspace") {
    event.preventDefault();
    undo();
  } else if (key in SHORTCUTS && !event.repeat) {
    event.preventDefault();
    $(SHORTCUTS[key]).click();
  }
});
// A control that was used with the mouse loses the focus, so that arrow keys and Space reach the game.
addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
addEventListener("pointerup", ({ target }) => target.matches("input[type=range]") && target.blur());
addEventListener("change", ({ target }) => target.matches("select") && target.blur());

addEventListener("keyup", (event) => held.release(`key:${event.code}`));
addEventListener("blur", () => held.clear());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) held.clear();
  play();
});
new ResizeObserver(view.fit).observe($("screen"));
addEventListener("resize", view.fit);

const send = (type, fields) => connection.send(type, fields);
const path = (rest) => connection.path(rest);
gallery.listen({ start: restart, path });
settings.listen({ send, reset: (seed) => restart("reset", { seed }) });
recording.listen({ send, path, fileName: () => `djinn-${world.name}` });
connection.open();
