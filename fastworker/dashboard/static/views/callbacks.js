// Who was to be told of a task's end, and has not heard it yet.

import * as api from "../api.js";
import { foreign, h, show } from "../dom.js";
import { exactly } from "../format.js";
import { icon } from "../icons.js";
import { emptyPanel, errorPanel, skeleton } from "../parts.js";
import { go, link } from "../router.js";

export const title = "Callbacks";
const PHASES = ["queued", "retrying", "parked"];
const LIMIT = 500;

export function open(outlet, route) {
  let query = route.query;
  let control = new AbortController();
  const counts = h("dl", { class: "tiles counts" });
  const phases = PHASES.map((phase) => [
    phase,
    h("button", { type: "button", class: "chip", click: () => toggle(phase) }, phase),
  ]);
  const place = h("div", {});
  const again = h(
    "button",
    { type: "button", class: "button", click: load },
    icon("retry"),
    "Refresh",
  );
  show(
    outlet,
    counts,
    h(
      "div",
      { class: "toolbar" },
      h(
        "div",
        { class: "chips", role: "group", "aria-label": "Phase" },
        phases.map(([, button]) => button),
      ),
      again,
    ),
    place,
  );

  function toggle(phase) {
    const chosen = new Set(query.getAll("phase"));
    if (!chosen.delete(phase)) chosen.add(phase);
    const changed = new URLSearchParams(
      PHASES.filter((each) => chosen.has(each)).map((each) => ["phase", each]),
    );
    go(link("callbacks", null, changed), { replace: true });
  }

  async function load() {
    control.abort();
    const mine = (control = new AbortController());
    for (const [phase, button] of phases)
      button.setAttribute("aria-pressed", String(query.getAll("phase").includes(phase)));
    if (!place.hasChildNodes()) show(place, skeleton(6));
    const asked = new URLSearchParams(query.getAll("phase").map((phase) => ["phase", phase]));
    asked.set("limit", LIMIT);
    try {
      const reply = await api.callbacks(asked, mine.signal);
      show(
        counts,
        Object.entries(reply.counts).map(([name, value]) =>
          h(
            "div",
            { class: `card tile ${name === "parked" && value ? "is-bad" : ""}` },
            h("dt", { class: "tile-name" }, name),
            h("dd", { class: "tile-value" }, exactly(value)),
          ),
        ),
      );
      const cut =
        reply.is_cut &&
        h(
          "p",
          { class: "lead" },
          `There are more; these are the first ${exactly(reply.callbacks.length)}.`,
        );
      show(
        place,
        cut,
        reply.callbacks.length ? table(reply.callbacks) : nothing(query.has("phase")),
      );
    } catch (error) {
      if (!mine.signal.aborted) show(place, errorPanel(error, load));
    }
  }

  load();
  return {
    update(changed) {
      query = changed.query;
      load();
    },
    key(key) {
      if (key === "r") load();
      return key === "r";
    },
    close: () => control.abort(),
  };
}

function nothing(isFiltered) {
  return isFiltered
    ? emptyPanel("callbacks", "No such callback", "None is in the chosen phases.")
    : emptyPanel(
        "check",
        "All callbacks have arrived",
        "Those that are queued, tried again or given up would be listed here.",
      );
}

function table(callbacks) {
  return h(
    "div",
    { class: "card table-card" },
    h(
      "table",
      { class: "table" },
      h("caption", { class: "visually-hidden" }, "Callbacks that have not arrived"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Phase", "Address", "Task", "Event", "Tries", "Last error"].map((name) =>
            h("th", { scope: "col" }, name),
          ),
        ),
      ),
      h("tbody", {}, callbacks.map(row)),
    ),
  );
}

function row({ phase, address, task_id, event_id, attempts, error }) {
  return h(
    "tr",
    {},
    h("td", {}, h("span", { class: `badge phase-${phase}` }, phase)),
    h("td", { class: "mono" }, foreign(address)),
    h(
      "td",
      { class: "mono" },
      h("a", { href: link("tasks", task_id), "data-row": true }, foreign(task_id)),
    ),
    h("td", { class: "mono" }, foreign(event_id)),
    h("td", { class: "number" }, exactly(attempts)),
    h("td", { class: "error-line" }, foreign(error)),
  );
}
