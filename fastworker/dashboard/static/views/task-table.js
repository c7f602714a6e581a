// The rows of the list of tasks. A row keeps its element while it is shown, so
// that live changes move neither the focus nor what is chosen.

import { now } from "../clock.js";
import { foreign, h, KeyedChildren, say, show } from "../dom.js";
import { duration, exactly, seconds } from "../format.js";
import { age, priorityMark, statusBadge } from "../parts.js";

const COLUMNS = [
  ["Status", "status"],
  ["Task", "task"],
  ["Priority", "priority"],
  ["Worker", "worker"],
  ["Tries", "tries"],
  ["Created", "created"],
  ["Took", "took"],
];

/** `address(id)` is where a row leads; `choose()` is called when other rows are chosen. */
export function makeTaskTable({ address, choose }) {
  const chosen = new Map();
  const body = h("tbody", {});
  const rows = new KeyedChildren(body);
  let shown = [];
  let open = null;
  let lastBox = null;

  const all = h("input", { type: "checkbox", "aria-label": "Choose all on this page" });
  all.addEventListener("change", () => {
    for (const row of shown) pick(row, all.checked);
    report();
  });

  function pick(row, isChosen) {
    if (isChosen) chosen.set(row.task_id, row);
    else chosen.delete(row.task_id);
    rows.get(row.task_id)?.check(isChosen);
  }

  function report() {
    all.checked = shown.length > 0 && shown.every(({ task_id }) => chosen.has(task_id));
    all.indeterminate = !all.checked && chosen.size > 0;
    choose();
  }

  // With Shift: all from the one before to this one.
  function pickUpTo(row, isChosen, isRange) {
    const [from, to] = [lastBox, row.task_id].map((id) =>
      shown.findIndex(({ task_id }) => task_id === id),
    );
    if (isRange && from >= 0)
      for (const each of shown.slice(Math.min(from, to), Math.max(from, to) + 1))
        pick(each, isChosen);
    else pick(row, isChosen);
    lastBox = row.task_id;
    report();
  }

  function makeRow(first) {
    let row = first;
    const box = h("input", { type: "checkbox", "aria-label": `Choose ${first.task_id}` });
    box.addEventListener("click", (event) => pickUpTo(row, box.checked, event.shiftKey));
    const name = h(
      "a",
      { class: "task-name", href: address(first.task_id), "data-row": first.task_id },
      foreign(first.name),
    );
    const under = h("span", { class: "task-under" });
    const status = h("td", {});
    const priority = h("td", { class: "column-priority" }, priorityMark(first.priority));
    const worker = h("td", { class: "column-worker" });
    const tries = h("td", { class: "column-tries number" });
    const took = h("td", { class: "column-took number" });
    const element = h(
      "tr",
      {},
      h("td", { class: "column-box" }, box),
      status,
      h("td", { class: "column-task" }, name, under),
      priority,
      worker,
      tries,
      h("td", { class: "column-created" }, age(first.created_at)),
      took,
    );
    element.addEventListener("click", (event) => {
      if (event.target.closest("a, input, button") || getSelection().toString()) return;
      name.click();
    });
    let drawn = "";
    return {
      element,
      check: (isChosen) => {
        box.checked = isChosen;
        element.classList.toggle("is-chosen", isChosen);
      },
      tick: () => say(took, tookOf(row)),
      update(changed) {
        row = changed;
        if (chosen.has(row.task_id)) chosen.set(row.task_id, row);
        name.href = address(row.task_id);
        element.classList.toggle("is-open", row.task_id === open);
        const key = JSON.stringify(row);
        if (key === drawn) return;
        drawn = key;
        show(status, statusBadge(row));
        show(
          under,
          row.error
            ? foreign(row.error, { class: "foreign error-line" })
            : foreign(row.task_id, { class: "foreign mono" }),
        );
        show(
          worker,
          row.worker_id ? foreign(row.worker_id) : h("span", { class: "muted" }, "–"),
        );
        say(tries, exactly(row.attempts));
        say(took, tookOf(row));
      },
    };
  }

  const element = h(
    "div",
    { class: "card table-card" },
    h(
      "table",
      { class: "table task-table" },
      h("caption", { class: "visually-hidden" }, "Tasks, the newest first"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col", class: "column-box" }, all),
          COLUMNS.map(([label, key]) =>
            h("th", { scope: "col", class: `column-${key}` }, label),
          ),
        ),
      ),
      body,
    ),
  );

  return {
    element,
    chosen,
    show(list, openId) {
      shown = list;
      open = openId;
      const there = new Set(list.map(({ task_id }) => task_id));
      for (const id of chosen.keys()) if (!there.has(id)) chosen.delete(id);
      rows.show(list, ({ task_id }) => task_id, makeRow);
      report();
    },
    tick() {
      for (const row of shown) if (row.status === "started") rows.get(row.task_id)?.tick();
    },
    toggleFocused() {
      const id = document.activeElement?.dataset?.row;
      const row = shown.find(({ task_id }) => task_id === id);
      if (!row) return false;
      pickUpTo(row, !chosen.has(id), false);
      return true;
    },
    unpick() {
      for (const row of [...chosen.values()]) pick(row, false);
      report();
    },
    focus: (id) => rows.get(id)?.element.querySelector("a").focus(),
  };
}

function tookOf({ started_at, changed_at, status }) {
  const started = seconds(started_at);
  if (started === null || status === "pending") return "–";
  return duration((status === "started" ? now() : seconds(changed_at)) - started);
}
