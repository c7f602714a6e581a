// Builds elements. All that users, tasks and workers named gets into the page
// here, and only ever as text: there is no way to hand in markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Attributes that are functions listen; false and null are left out. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Text that somebody else wrote: it keeps its writing direction to itself. */
export function foreign(text, attributes) {
  return h("bdi", { class: "foreign", ...attributes }, text ?? "");
}

/** Put a text there, and touch nothing if it is there. */
export function say(element, text) {
  const wanted = String(text ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Put these there instead of what is there. */
export function show(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

/**
 * Make the children of `parent` those of `items`, in their order.
 *
 * What is there keeps its element, and with it focus, selection and scroll
 * position. `make(item)` gives an object with `element` and `update(item)`.
 */
export class KeyedChildren {
  #parent;
  #made = new Map();

  constructor(parent) {
    this.#parent = parent;
  }

  get(key) {
    return this.#made.get(key);
  }

  show(items, keyOf, make) {
    const kept = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const there = this.#made.get(key) ?? make(item);
      there.update(item);
      kept.set(key, there);
    }
    for (const [key, there] of this.#made) if (!kept.has(key)) there.element.remove();
    let place = this.#parent.firstElementChild;
    for (const { element } of kept.values()) {
      if (element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(element, place);
    }
    this.#made = kept;
  }
}
