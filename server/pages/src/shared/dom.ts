/** Building elements, without HTML in strings. */

type Child = Node | string | undefined | false;

/** Makes an element: `element("p.hint", {id: "x"}, "text", child)`; attributes that are undefined or false are left out. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  kind: Name | `${Name}.${string}`,
  attributes: Readonly<Record<string, string | number | boolean | undefined>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const [name = "", ...classes] = kind.split(".");
  const made = document.createElement(name) as HTMLElementTagNameMap[Name];
  if (classes.length > 0) {
    made.className = classes.join(" ");
  }
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : String(value));
    }
  }
  put(made, children);
  return made;
}

/** Replaces what an element holds. */
export function fill(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren();
  put(parent, children);
}

/** Finds an element that the page has. */
export function find<Made extends HTMLElement = HTMLElement>(id: string): Made {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`the page has no #${id}`);
  }
  return found as Made;
}

function put(parent: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child !== undefined && child !== false) {
      parent.append(child);
    }
  }
}
