// The keyboard: every place and every row without a mouse. Keys mean nothing
// while somebody types, or while a dialog asks.

import { showHelp } from "./dialogs.js";
import { go, link } from "./router.js";

const PLACES = {
  o: "overview",
  t: "tasks",
  w: "workers",
  f: "functions",
  c: "callbacks",
  p: "poison",
};
const AFTER_G = 1_200;

let isAfterG = false;
let timer = null;

/** Listen; `view()` gives the view that is shown, which may have keys of its own. */
export function startKeys(view) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (act(event.key, view())) event.preventDefault();
  });
}

function act(key, view) {
  if (isAfterG) {
    isAfterG = false;
    clearTimeout(timer);
    if (PLACES[key]) go(link(PLACES[key]));
    return Boolean(PLACES[key]);
  }
  switch (key) {
    case "g":
      isAfterG = true;
      timer = setTimeout(() => (isAfterG = false), AFTER_G);
      return true;
    case "?":
      showHelp();
      return true;
    case "/":
      search(view);
      return true;
    case "j":
    case "k":
      return move(key === "j" ? 1 : -1);
    default:
      return view?.key?.(key) ?? false;
  }
}

function search(view) {
  const field = document.querySelector("main input[type=search]");
  if (field) {
    field.focus();
    field.select();
  } else if (view) {
    go(link("tasks", null, { focus: "search" }));
  }
}

// Rows are links or buttons with `data-row`; the focus itself is the cursor.
function move(step) {
  const rows = [...document.querySelectorAll("main [data-row]")].filter((row) =>
    row.checkVisibility(),
  );
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step;
  const row = rows[Math.min(Math.max(next, 0), rows.length - 1)];
  row.focus();
  row.scrollIntoView({ block: "nearest" });
  return true;
}

function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable ||
      /^(TEXTAREA|SELECT)$/.test(target.tagName) ||
      (target.tagName === "INPUT" && !/^(checkbox|radio|button)$/.test(target.type)))
  );
}
