// What actions are called here, and the fields in which a player calls them something else.

const UNNAMED = /^action \d+$/;

/** The names that a new world gives its actions count from 0; here they count as the number keys do. */
export const label = (action) => (UNNAMED.test(action.name) ? `action ${action.index + 1}` : action.name);

/**
 * A field for an action's name.
 * @param {{index: number, name: string}} action
 * @param {{longest: number, save: function(string), done: function()}} on  what to do with a name, and at the end
 */
export function field(action, { longest, save, done }) {
  const named = UNNAMED.test(action.name) ? "" : action.name;
  const input = document.createElement("input");
  Object.assign(input, { type: "text", value: named, maxLength: longest, placeholder: `action ${action.index + 1}` });
  Object.assign(input, { autocomplete: "off", spellcheck: false, className: "name" });
  input.setAttribute("aria-label", `Name of action ${action.index + 1}`);
  input.onchange = () => save(input.value);
  input.onkeydown = ({ key }) => {
    if (key === "Escape") input.value = named;
    if (key === "Enter" || key === "Escape") {
      input.blur();
      done();
    }
  };
  return input;
}

/** Tells the server an action's name; gives back all actions, and a warning where it could not be written down. */
export async function send(index, name) {
  const address = new URL(`api/actions/${index}`, document.baseURI);
  const answer = await fetch(address, { method: "POST", body: JSON.stringify({ name }) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
