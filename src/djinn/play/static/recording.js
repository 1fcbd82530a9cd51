// Recording: start, stop, save as a video.

import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
let state = { recording: false, recorded: 0, history: 0, limit: 0 };

/** Handle the buttons. `fileName` returns the name of a saved file without its suffix. */
export function listen({ send, path, fileName }) {
  $("record").onclick = () => send("record", { command: state.recording ? "stop" : "start" });
  $("discard").onclick = () => send("record", { command: "discard" });
  for (const suffix of ["mp4", "gif"]) $(`save-${suffix}`).onclick = () => save(suffix, path(`recording.${suffix}`), fileName());
}

/** Show the state that the server reports. */
export function show(update) {
  state = update;
  const { recording, recorded, history } = state;
  $("record").setAttribute("aria-pressed", String(recording));
  $("record").lastElementChild.textContent = recording ? `Stop · ${recorded}` : "Record";
  const frames = (count) => `${count} ${count === 1 ? "frame" : "frames"}`;
  $("recording-text").textContent = recording ? `Recording: ${frames(recorded)} of at most ${state.limit}.`
    : recorded ? `Recorded: ${frames(recorded)}.`
    : history > 1 ? `Since the start: ${frames(history)}.` : "No frames yet.";
  $("save-mp4").disabled = $("save-gif").disabled = !recorded && history < 2;
  $("discard").hidden = recording || !recorded;
}

async function save(suffix, address, fileName) {
  const button = $(`save-${suffix}`);
  const label = button.textContent;
  button.textContent = "Saving …";
  try {
    const response = await fetch(address);
    if (!response.ok) throw new Error((await response.json()).error);
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(await response.blob());
    anchor.download = `${fileName}.${suffix}`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
    view.announce("The recording is saved.");
  } catch (error) {
    view.showError(view.reason(error, "The recording was not saved"));
  }
  button.textContent = label;
}
