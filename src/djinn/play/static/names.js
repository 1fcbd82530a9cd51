// Edit the names of actions.

export const defaultName = (code) => `action ${code}`;

/**
 * Create an input for the name of an action.
 * @param {{index: number, name: string}} action
 * @param {{maxLength: number, save: function(string), done: function()}} options  handlers for a new name and the end
 */
export function nameInput(action, { maxLength, save, done }) {
  const placeholder = defaultName(action.index);
  const value = action.name === placeholder ? "" : action.name;
  const input = document.createElement("input");
  Object.assign(input, { type: "text", value, maxLength, placeholder, autocomplete: "off", spellcheck: false, className: "name" });
  input.setAttribute("aria-label", `Name of action ${action.index}`);
  input.onchange = () => save(input.value);
  input.onkeydown = ({ key }) => {
    if (key === "Escape") input.value = value;
    if (key === "Enter" || key === "Escape") {
      input.blur();
      done();
    }
  };
  return input;
}

/** Save the name of an action. Return all actions, and a warning or null. */
export async function saveName(index, name) {
  const address = new URL(`api/actions/${index}`, document.baseURI);
  const response = await fetch(address, { method: "POST", body: JSON.stringify({ name }) });
  const result = await response.json();
  if (!response.ok) throw new Error(result.error);
  return result;
}
