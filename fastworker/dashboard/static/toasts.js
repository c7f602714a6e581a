// Says what became of an action: in a corner, and to screen readers at once.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN = { done: 6_000, error: 20_000 };
const MOST = 4;

/** Show a text for six seconds, and an error for twenty. */
export function toast(text, { kind = "done", detail = "" } = {}) {
  // Two regions, so that an error interrupts and a success waits.
  const region = document.getElementById(kind === "error" ? "toasts-error" : "toasts");
  const close = h(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": "Dismiss",
      click: () => element.remove(),
    },
    icon("close"),
  );
  const element = h(
    "div",
    { class: `toast toast-${kind}` },
    icon(kind === "error" ? "poison" : "check"),
    h(
      "div",
      { class: "toast-text" },
      h("p", {}, text),
      detail && h("p", { class: "muted" }, detail),
    ),
    close,
  );
  region.append(element);
  while (region.children.length > MOST) region.firstElementChild.remove();
  leaveLater(element, SHOWN[kind]);
}

// Not while somebody points at it.
function leaveLater(element, shown) {
  let timer = setTimeout(() => element.remove(), shown);
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("pointerleave", () => {
    timer = setTimeout(() => element.remove(), shown);
  });
}
