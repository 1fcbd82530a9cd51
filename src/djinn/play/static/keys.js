// Map keyboard events to actions.

const WASD = { KeyW: "arrowup", KeyA: "arrowleft", KeyS: "arrowdown", KeyD: "arrowright" };
const LABELS = { arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", " ": "␣", enter: "⏎", escape: "esc", shift: "⇧" };

/** Normalize a key name: "Left", "ArrowLeft" and "arrowleft" are equal. A plus joins keys that are held together. */
export function normalizeKey(name) {
  let key = String(name).toLowerCase();
  if (/.\+./.test(key)) return key.split("+").map(normalizeKey).join("+");
  if (key === "space" || key === "spacebar") key = " ";
  if (["left", "right", "up", "down"].includes(key)) key = `arrow${key}`;
  return key.replace(/^key([a-z])$/, "$1").replace(/^digit(\d)$/, "$1");
}

export const keyLabel = (key) => LABELS[key] ?? (key.length === 1 ? key.toUpperCase() : key.split("+").map((part) => LABELS[part] ?? part).join(""));

/** Digit key of an action: its code. Codes from 10 on have none. */
export const digitKey = (code) => (code < 10 ? String(code) : null);

/** Keys of every action besides its digit key, as the world lists them. */
export const keysOf = (actions) => actions.map((action) => (action.keys ?? []).map(normalizeKey));

/** Action of a keyboard event, or null. Digits are matched by physical key, so they work on every layout. */
export function actionOf(event, keys) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1] ?? (/^\d$/.test(event.key) ? event.key : null);
  for (const key of [normalizeKey(event.key), digit, WASD[event.code]]) {
    if (key === null || key === undefined) continue;
    const code = keys.findIndex((list) => list.includes(key));
    if (code >= 0) return code;
    if (key === digit && Number(digit) < keys.length) return Number(digit);
  }
  return null;
}

/** Names under which a world may list the key of a keyboard event. */
export const keyNames = (event) => [normalizeKey(event.key), WASD[event.code]].filter((key) => key !== undefined);

/**
 * Keys and buttons that are held down. The newest determines the action; when it is released, the previous one applies.
 * A combination such as "ArrowRight+ArrowUp" plays its action while all of its keys are held, the newest among them.
 */
export class HeldInputs {
  constructor(onChange) {
    this.sources = new Map();
    this.onChange = onChange;
    this.keys = [];
  }

  get action() {
    const sources = [...this.sources.values()];
    const newest = sources.at(-1);
    const down = new Set(sources.flatMap((source) => source.names));
    const isHeld = (key) => {
      const parts = key.split("+");
      return parts.length > 1 && parts.every((part) => down.has(part)) && parts.some((part) => newest.names.includes(part));
    };
    const code = this.keys.findIndex((list) => list.some(isHeld));
    return code >= 0 ? code : (newest?.action ?? null);
  }

  press(source, action, names = []) {
    this.sources.delete(source);
    this.sources.set(source, { action, names });
    this.onChange(this.action, true);
  }

  release(source) {
    if (this.sources.delete(source)) this.onChange(this.action, false);
  }

  clear() {
    if (this.sources.size) {
      this.sources.clear();
      this.onChange(null, false);
    }
  }
}
