// The page: wires the controls to the server.

import { Held, actionOf, cap, digit, keysOf, namesOf } from "./keys.js";
import { Link } from "./link.js";
import * as gallery from "./gallery.js";
import * as names from "./names.js";
import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
const FASTEST = Number($("pace").max);

let world = null;
let keys = [];
let lastAction = 0;
let paused = false;
let naming = false;
let idle = null;
let tape = { recording: false, recorded: 0, history: 0, limit: 0 };
let first = true;

// ---- playing

const held = new Held((action, pressed) => {
  if (paused) {
    if (pressed && action !== null) single(action);
    mark(action);
    return;
  }
  go();
});

/** Tells the server what is held now; with nothing held, what the player chose for that. */
function go() {
  const action = paused || document.hidden ? null : (held.action ?? idle);
  mark(held.action);
  if (action === null) {
    link.send("release");
    view.rest();
  } else {
    if (held.action !== null) lastAction = action;
    link.send("hold", { action, stamp: performance.now() });
  }
}

function single(action) {
  lastAction = action;
  link.send("step", { action, stamp: performance.now() });
}

function mark(action) {
  for (const button of $("actions").children) button.classList.toggle("on", Number(button.dataset.action) === action);
}

function pause(on) {
  paused = on;
  $("pause").setAttribute("aria-pressed", String(on));
  view.badge(on ? "Paused: each press plays one frame" : null);
  go();
}

function restart(type, fields = {}) {
  view.rest();
  link.send(type, fields);
}

const link = new Link({
  welcome(message) {
    setWorld(message.world);
    view.curtain(null);
    held.sources.clear();
    if (idle !== null) go();
    if (paused) pause(true);
  },
  settings(message) {
    setSlider("steps", message.steps);
    setSlider("temperature", message.temperature);
    setSlider("pace", message.fps === 0 ? FASTEST : Math.round(message.fps));
    $("image").value = message.format;
    $("seed").value = message.seed;
  },
  tape: showTape,
  error(message) {
    view.complain(message.text);
  },
  bye(message) {
    view.curtain(message.text, true);
  },
  lost() {
    view.curtain("The connection to the server is lost. Trying again …");
  },
  frame(header, bitmap) {
    view.draw(bitmap);
    const running = !paused && (held.action !== null || idle !== null);
    view.measure(header, running);
    view.trailFrame(header, world.actions.length);
    $("undo").disabled = header.undo === 0;
    $("seed").value = header.seed;
    showTape(header.tape);
    const data = $("view").dataset;
    Object.assign(data, { number: header.number, time: header.time, action: header.action ?? "" });
    if (first) {
      first = false;
      view.say("The world is ready.");
    }
  },
});

setInterval(view.showFigures, 250);

// ---- building the page from the world

function setWorld(about) {
  world = about;
  held.keys = keys = keysOf(world.actions);
  document.title = `Djinn · ${world.name}`;
  $("world").textContent = `${world.name}  ·  ${world.width}×${world.height}, ${world.actions.length} actions`;
  $("steps").max = Math.max(world.sampler.steps, Math.min(world.limits.steps, world.tokens_per_frame, 32));
  $("temperature").max = Math.max(3, world.sampler.temperature);
  view.resize(world.width, world.height);
  buildActions();
  gallery.build(world, first);
  buildHelp();
  view.fit();
}

function capsOf(index) {
  return [digit(index), ...keys[index].map(cap)].filter((key) => key !== null);
}

function buildActions() {
  const count = world.actions.length;
  const rows = Math.ceil(count / 8);
  $("actions").style.setProperty("--desk-columns", Math.ceil(count / rows));
  $("actions").style.setProperty("--phone-columns", count <= 3 ? count : count % 3 === 0 && count < 9 ? 3 : 4);
  $("actions").replaceChildren(...world.actions.map((action) => {
    const button = document.createElement(naming ? "div" : "button");
    button.className = "action";
    button.dataset.action = action.index;
    button.style.setProperty("--hue", view.hue(action.index, count));
    const caps = document.createElement("span");
    caps.className = "caps";
    caps.append(...capsOf(action.index).map(kbd));
    if (naming) {
      button.append(caps, names.field(action, { longest: world.limits.name, save: (name) => rename(action, name), done: () => setNaming(false) }));
      return button;
    }
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = names.label(action);
    button.type = "button";
    button.title = `Hold to play latent action ${action.index}: ${names.label(action)}`;
    button.append(caps, name);
    hold(button, () => held.press(`button:${action.index}`, action.index), () => held.let(`button:${action.index}`));
    return button;
  }));
  const options = world.actions.map((action) => new Option(`play ${names.label(action)}`, action.index));
  $("idle").replaceChildren(new Option("the world waits", ""), ...options);
  $("idle").value = idle ?? "";
}

/** Fields in place of the actions' buttons, or the buttons again. */
function setNaming(on) {
  naming = on;
  held.clear();
  $("rename").setAttribute("aria-pressed", String(on));
  buildActions();
  if (on) $("actions").querySelector("input").focus();
}

async function rename(action, name) {
  try {
    const told = await names.send(action.index, name);
    world.actions = told.actions;
    if (told.warning) view.complain(told.warning);
    else view.say("The name is saved.");
  } catch (error) {
    view.complain(view.reason(error, "The name could not be saved"));
  }
  if (!naming) buildActions();
}

function kbd(text) {
  const element = document.createElement("kbd");
  element.textContent = text;
  return element;
}

/** Down and up for a button, by mouse, finger, pen, or Enter and Space. */
function hold(button, down, up) {
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
  const most = Math.min(world.actions.length, 10);
  const arrows = keys.flat().filter((key) => key.startsWith("arrow"));
  const rows = [[["1", "–", digit(most - 1)], "play an action; hold to keep playing"]];
  if (arrows.length) rows.push([[...new Set(arrows.map(cap))], "the same, as the buttons show; WASD too"]);
  rows.push([["R"], "back to the start"], [["U"], "take a frame back; hold to rewind"], [["P"], "pause: each press plays one frame"]);
  rows.push([["N"], "one frame of the last action"], [["C"], "record, and stop recording"], [["E"], "rename the actions"], [["H"], "this help"]);
  $("help-keys").replaceChildren(...rows.map(([caps, text]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    term.append(...caps.map((key) => (key === "–" ? "–" : kbd(key))));
    const words = document.createElement("dd");
    words.textContent = text;
    row.append(term, words);
    return row;
  }));
}

// ---- film

function showTape(state) {
  tape = state;
  const { recording, recorded, history } = tape;
  $("record").setAttribute("aria-pressed", String(recording));
  $("record").lastElementChild.textContent = recording ? `Stop · ${recorded}` : "Record";
  const frames = (count) => `${count} ${count === 1 ? "frame" : "frames"}`;
  $("film-text").textContent = recording ? `Recording: ${frames(recorded)}, at most ${tape.limit}.`
    : recorded ? `Recorded: ${frames(recorded)}.`
    : history > 1 ? `Since the start: ${frames(history)}.` : "Nothing played yet.";
  $("save-mp4").disabled = $("save-gif").disabled = !recorded && history < 2;
  $("discard").hidden = recording || !recorded;
}

async function save(kind) {
  const button = $(`save-${kind}`);
  const words = button.textContent;
  button.textContent = "Saving …";
  try {
    const answer = await fetch(link.path(`film.${kind}`));
    if (!answer.ok) throw new Error((await answer.json()).error);
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(await answer.blob());
    anchor.download = `djinn-${world.name}.${kind}`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
    view.say("The film is saved.");
  } catch (error) {
    view.complain(view.reason(error, "The film could not be saved"));
  }
  button.textContent = words;
}

// ---- settings

function setSlider(id, value) {
  const slider = $(id);
  slider.value = value;
  paint(slider);
}

function paint(slider) {
  const share = (slider.value - slider.min) / (slider.max - slider.min);
  slider.style.setProperty("--fill", `${share * 100}%`);
  const value = Number(slider.value);
  const words = slider.id === "pace" ? (value === FASTEST ? "no limit" : `${value} fps`)
    : slider.id === "temperature" ? value.toFixed(2) : String(value);
  $(`${slider.id}-out`).textContent = words;
  slider.setAttribute("aria-valuetext", words);
}

for (const id of ["steps", "temperature", "pace"]) $(id).oninput = ({ target }) => paint(target);
$("steps").onchange = ({ target }) => link.send("sampler", { steps: Number(target.value) });
$("temperature").onchange = ({ target }) => link.send("sampler", { temperature: Number(target.value) });
$("pace").onchange = ({ target }) => link.send("pace", { fps: Number(target.value) === FASTEST ? 0 : Number(target.value) });
$("image").onchange = ({ target }) => link.send("image", { format: target.value });
$("idle").onchange = ({ target }) => {
  idle = target.value === "" ? null : Number(target.value);
  go();
};
$("seed").onchange = ({ target }) => {
  if (target.value === "" || !target.checkValidity()) return view.complain("The seed is a whole number from 0 to 9007199254740991.");
  restart("reset", { seed: Number(target.value) });
};
$("dice").onclick = () => restart("reset", { seed: Math.floor(Math.random() * 1e6) });

// ---- buttons and keys

$("reset").onclick = () => restart("reset");
$("pause").onclick = () => pause(!paused);
$("rename").onclick = () => world && setNaming(!naming);
$("step").onclick = () => single(lastAction);
$("record").onclick = () => link.send("record", { do: tape.recording ? "stop" : "start" });
$("discard").onclick = () => link.send("record", { do: "discard" });
$("save-mp4").onclick = () => save("mp4");
$("save-gif").onclick = () => save("gif");
$("help-open").onclick = () => $("help").showModal();
$("retry").onclick = () => {
  view.curtain("Connecting …");
  link.open();
};
const undo = () => $("undo").disabled || link.send("undo");
let rewind = null;
const stopRewind = () => {
  clearTimeout(rewind);
  rewind = null;
};
const keepUndoing = (wait) => {
  if ($("undo").disabled) return stopRewind(); // at the start; a disabled button is not told that it is let go
  undo();
  rewind = setTimeout(() => keepUndoing(90), wait);
};
hold($("undo"), () => rewind ?? keepUndoing(400), stopRewind);

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
    if (!event.repeat) held.press(`key:${event.code}`, action, namesOf(event));
  } else if (key === "u" || key === "backspace") {
    event.preventDefault();
    undo();
  } else if (key in SHORTCUTS && !event.repeat) {
    event.preventDefault();
    $(SHORTCUTS[key]).click();
  }
});
// What was used with the mouse lets go of the keyboard, so that arrows and Space go to the game again.
addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
addEventListener("pointerup", ({ target }) => target.matches("input[type=range]") && target.blur());
addEventListener("change", ({ target }) => target.matches("select") && target.blur());

addEventListener("keyup", (event) => held.let(`key:${event.code}`));
addEventListener("blur", () => held.clear());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) held.clear();
  go();
});
new ResizeObserver(view.fit).observe($("screen"));
addEventListener("resize", view.fit);

gallery.listen({ start: restart, path: (rest) => link.path(rest) });
link.open();
