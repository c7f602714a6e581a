// Questions in front of the page. A `<dialog>` keeps the focus inside, closes on
// Esc and gives the focus back; nothing is done before somebody agreed.

import { foreign, h } from "./dom.js";

/**
 * Ask whether it is to be done: true or false.
 *
 * `items` are texts that somebody else wrote, such as a task's name and id. The
 * focus is on the button that does nothing, unless it can be undone.
 */
export function confirmAction({ title, text, items = [], agree, isDangerous = false }) {
  const dialog = h("dialog", {
    class: "dialog",
    "aria-labelledby": "dialog-title",
    "aria-describedby": "dialog-text",
  });
  const refuse = h(
    "button",
    { type: "button", class: "button", click: () => dialog.close("") },
    "Keep as it is",
  );
  const accept = h(
    "button",
    {
      type: "button",
      class: `button ${isDangerous ? "danger" : "primary"}`,
      click: () => dialog.close("agreed"),
    },
    agree,
  );
  dialog.append(
    h("h2", { id: "dialog-title" }, title),
    h("p", { id: "dialog-text" }, text),
    items.length
      ? h(
          "ul",
          { class: "dialog-items" },
          items.map((item) => h("li", {}, foreign(item))),
        )
      : "",
    h("div", { class: "dialog-buttons" }, refuse, accept),
  );
  return open(dialog, isDangerous ? refuse : accept).then((answer) => answer === "agreed");
}

const KEYS = [
  ["/", "Search"],
  ["g o", "Overview"],
  ["g t", "Tasks"],
  ["g w", "Workers"],
  ["g f", "Task functions"],
  ["g c", "Callbacks"],
  ["g p", "Poison tasks"],
  ["j k", "Next and previous row"],
  ["Enter", "Open the row"],
  ["x", "Choose the row"],
  ["[ ]", "Newer and older page"],
  ["r", "Refresh the list"],
  ["Esc", "Close what is open"],
  ["?", "This help"],
];

/** Show which keys there are. */
export function showHelp() {
  const close = h(
    "button",
    { type: "button", class: "button primary", click: () => dialog.close() },
    "Close",
  );
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, "Keyboard"),
    h(
      "dl",
      { class: "keys" },
      KEYS.map(([keys, what]) =>
        h(
          "div",
          {},
          h(
            "dt",
            {},
            keys.split(" ").map((key) => h("kbd", {}, key)),
          ),
          h("dd", {}, what),
        ),
      ),
    ),
    h("div", { class: "dialog-buttons" }, close),
  );
  return open(dialog, close);
}

// What was asked about may have been drawn anew meanwhile, with its buttons.
function whereFocusWas(element) {
  if (element?.isConnected) return element;
  const action = element?.dataset?.action;
  const same = action ? document.querySelector(`[data-action="${action}"]`) : null;
  return same ?? document.getElementById("main");
}

function open(dialog, first) {
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close("");
  });
  dialog.showModal();
  first.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      whereFocusWas(before)?.focus();
      resolve(dialog.returnValue);
    });
  });
}
