// From keys and fingers to the action that is held.

const WASD = { KeyW: "arrowup", KeyA: "arrowleft", KeyS: "arrowdown", KeyD: "arrowright" };
const ARROWS = ["arrowleft", "arrowright", "arrowup", "arrowdown"];
const CAPS = { arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", " ": "␣", enter: "⏎", escape: "esc", shift: "⇧" };

/** One spelling for a key: "Left", "ArrowLeft" and "arrowleft" are the same. Keys held together are joined by a plus. */
export function spell(name) {
  let key = String(name).toLowerCase();
  if (/.\+./.test(key)) return key.split("+").map(spell).join("+");
  if (key === "space" || key === "spacebar") key = " ";
  if (["left", "right", "up", "down"].includes(key)) key = `arrow${key}`;
  return key.replace(/^key([a-z])$/, "$1").replace(/^digit(\d)$/, "$1");
}

export const cap = (key) => CAPS[key] ?? (key.length === 1 ? key.toUpperCase() : key.split("+").map((part) => CAPS[part] ?? part).join(""));

/** The number key of an action: 1 to 9, then 0; further actions have none. */
export const digit = (index) => (index < 9 ? String(index + 1) : index === 9 ? "0" : null);

/** Keys of every action beside its number key. A world that names none gets the arrow keys for its first actions. */
export function keysOf(actions) {
  const named = actions.map((action) => (action.keys ?? []).map(spell));
  if (named.some((keys) => keys.length)) return named;
  return actions.map((_, index) => (ARROWS[index] ? [ARROWS[index]] : []));
}

/** The action a keyboard event asks for, or null. Digits count by position, so that every layout has them. */
export function actionOf(event, keys) {
  const number = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1] ?? (/^\d$/.test(event.key) ? event.key : null);
  for (const key of [spell(event.key), number, WASD[event.code]]) {
    if (key === null || key === undefined) continue;
    const named = keys.findIndex((list) => list.includes(key));
    if (named >= 0) return named;
    const index = key === number ? (Number(key) + 9) % 10 : -1;
    if (index >= 0 && index < keys.length) return index;
  }
  return null;
}

/** The names by which a world may list the key of a keyboard event. */
export const namesOf = (event) => [spell(event.key), WASD[event.code]].filter((key) => key !== undefined);

/**
 * What is held down now: the newest wins, and when it is let go the one before it counts again. Keys that the world lists
 * together, as "ArrowRight+ArrowUp", play their action while all of them are held, the newest among them.
 */
export class Held {
  constructor(change) {
    this.sources = new Map();
    this.change = change;
    this.keys = [];
  }

  get action() {
    const sources = [...this.sources.values()];
    const newest = sources.at(-1);
    const down = new Set(sources.flatMap((source) => source.names));
    const together = (key) => {
      const parts = key.split("+");
      return parts.length > 1 && parts.every((part) => down.has(part)) && parts.some((part) => newest.names.includes(part));
    };
    const index = this.keys.findIndex((list) => list.some(together));
    return index >= 0 ? index : (newest?.action ?? null);
  }

  press(source, action, names = []) {
    this.sources.delete(source);
    this.sources.set(source, { action, names });
    this.change(this.action, true);
  }

  let(source) {
    if (this.sources.delete(source)) this.change(this.action, false);
  }

  clear() {
    if (this.sources.size) {
      this.sources.clear();
      this.change(null, false);
    }
  }
}
