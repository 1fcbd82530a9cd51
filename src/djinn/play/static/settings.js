// Sampling settings: sliders, image format, seed.

import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
const UNLIMITED = Number($("frame-rate").max);
const MAX_SEED = Number($("seed").max);

/** Send changes of the settings to the server. */
export function listen({ send, reset }) {
  for (const id of ["steps", "temperature", "frame-rate"]) $(id).oninput = ({ target }) => paint(target);
  $("steps").onchange = ({ target }) => send("sampler", { steps: Number(target.value) });
  $("temperature").onchange = ({ target }) => send("sampler", { temperature: Number(target.value) });
  $("frame-rate").onchange = ({ target }) => send("frame_rate", { fps: Number(target.value) === UNLIMITED ? 0 : Number(target.value) });
  $("image").onchange = ({ target }) => send("image", { format: target.value });
  $("seed").onchange = ({ target }) => {
    if (target.value === "" || !target.checkValidity()) return view.showError(`The seed must be an integer from 0 to ${MAX_SEED}.`);
    reset(Number(target.value));
  };
  $("dice").onclick = () => reset(Math.floor(Math.random() * 1e6));
}

/** Set the ranges of the sliders for a world. */
export function limit(world) {
  $("steps").max = Math.max(world.sampler.steps, Math.min(world.limits.steps, world.tokens_per_frame, 32));
  $("temperature").max = Math.max(3, world.sampler.temperature);
}

/** Show the settings that the server reports. */
export function show(settings) {
  setSlider("steps", settings.steps);
  setSlider("temperature", settings.temperature);
  setSlider("frame-rate", settings.fps === 0 ? UNLIMITED : Math.round(settings.fps));
  $("image").value = settings.format;
  $("seed").value = settings.seed;
  $("seed").disabled = $("dice").disabled = settings.deterministic;
  $("seed-note").hidden = !settings.deterministic;
  $("seed-line").title = settings.deterministic
    ? "Sampling is deterministic at temperature 0: the seed has no effect. Raise the temperature to use it."
    : "The same seed and actions give the same frames";
}

function setSlider(id, value) {
  $(id).value = value;
  paint($(id));
}

function paint(slider) {
  const fraction = (slider.value - slider.min) / (slider.max - slider.min);
  slider.style.setProperty("--fill", `${fraction * 100}%`);
  const value = Number(slider.value);
  const text = slider.id === "frame-rate" ? (value === UNLIMITED ? "no limit" : `${value} fps`)
    : slider.id === "temperature" ? value.toFixed(2) : String(value);
  $(`${slider.id}-out`).textContent = text;
  slider.setAttribute("aria-valuetext", text);
}
