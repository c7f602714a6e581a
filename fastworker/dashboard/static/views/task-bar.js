// The controls above the list of tasks: search, and what to filter by.

import { cluster } from "../cluster.js";
import { h, show } from "../dom.js";
import { icon } from "../icons.js";
import { PRIORITIES, STATUSES } from "../parts.js";

const TYPED = 250;
const TIMES = [
  ["", "Any time"],
  ["5m", "Last 5 minutes"],
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["between", "Between …"],
];

/** `change(changes)` is called with what was chosen, `openTask(id)` if an id was typed. */
export function makeTaskBar({ change, openTask }) {
  let filters = null;
  let timer = null;
  const later = (call) => {
    clearTimeout(timer);
    timer = setTimeout(call, TYPED);
  };

  const search = h("input", {
    type: "search",
    class: "input",
    placeholder: "Search by name or id",
    "aria-label": "Search tasks",
    autocomplete: "off",
    spellcheck: "false",
  });
  search.addEventListener("input", () => later(() => change({ text: search.value.trim() })));
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    clearTimeout(timer);
    const text = search.value.trim();
    if (/^[0-9a-f]{32}$|^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)) openTask(text);
    else change({ text });
  });

  const field = (key, label, listed) => {
    const choices = h("datalist", { id: `choices-${key}` });
    const input = h("input", {
      type: "text",
      class: "input",
      placeholder: label,
      "aria-label": label,
      list: choices.id,
      autocomplete: "off",
      spellcheck: "false",
    });
    input.addEventListener("focus", () =>
      show(
        choices,
        listed().map((value) => h("option", { value })),
      ),
    );
    input.addEventListener("change", () => change({ [key]: input.value.trim() }));
    return { input, element: h("span", { class: "field" }, input, choices) };
  };
  const name = field("name", "Function", () =>
    [...new Set([...cluster.workers.values()].flatMap(({ functions }) => functions))].sort(),
  );
  const worker = field("worker", "Worker", () => [...cluster.workers.keys()].sort());

  const time = h(
    "select",
    { class: "input", "aria-label": "Created" },
    TIMES.map(([value, label]) => h("option", { value }, label)),
  );
  const since = h("input", {
    type: "datetime-local",
    class: "input",
    "aria-label": "Created after",
    change: () => change({ since: since.value, last: "" }),
  });
  const until = h("input", {
    type: "datetime-local",
    class: "input",
    "aria-label": "Created before",
    change: () => change({ until: until.value, last: "" }),
  });
  const between = h(
    "span",
    { class: "between", hidden: true },
    since,
    h("span", { "aria-hidden": "true" }, "to"),
    until,
  );
  time.addEventListener("change", () => {
    between.hidden = time.value !== "between";
    if (between.hidden) change({ last: time.value, since: "", until: "" });
    else since.focus();
  });

  const chips = (key, label, values) => {
    const buttons = values.map((value) => [
      value,
      h(
        "button",
        {
          type: "button",
          class: `chip ${key}-chip-${value}`,
          click: () => change({ [key]: toggled(filters[key], value) }),
        },
        h("span", { class: "chip-dot" }),
        value,
      ),
    ]);
    return {
      buttons,
      element: h(
        "div",
        { class: "chips", role: "group", "aria-label": label },
        buttons.map(([, button]) => button),
      ),
    };
  };
  const status = chips("status", "Status", STATUSES);
  const priority = chips("priority", "Priority", PRIORITIES);

  const clear = h(
    "button",
    {
      type: "button",
      class: "button quiet",
      click: () =>
        change({
          status: [],
          priority: [],
          text: "",
          name: "",
          worker: "",
          last: "",
          since: "",
          until: "",
        }),
    },
    icon("close"),
    "Clear filters",
  );
  const extra = h(
    "div",
    { class: "toolbar-extra", id: "more-filters" },
    name.element,
    worker.element,
    time,
    between,
  );
  const more = h(
    "button",
    {
      type: "button",
      class: "button more-filters",
      "aria-expanded": "false",
      "aria-controls": "more-filters",
    },
    "Filters",
    icon("down"),
  );
  more.addEventListener("click", () => {
    const isOpen = extra.classList.toggle("is-open");
    more.setAttribute("aria-expanded", String(isOpen));
  });

  return {
    search,
    element: h(
      "search",
      { class: "task-bar" },
      h(
        "div",
        { class: "toolbar" },
        h(
          "div",
          { class: "search" },
          icon("search"),
          search,
          h("kbd", { "aria-hidden": "true" }, "/"),
        ),
        more,
        extra,
      ),
      h("div", { class: "toolbar chips-line" }, status.element, priority.element, clear),
    ),
    show(changed) {
      filters = changed;
      put(search, filters.text);
      put(name.input, filters.name);
      put(worker.input, filters.worker);
      put(since, filters.since);
      put(until, filters.until);
      const isBetween = Boolean(filters.since || filters.until);
      if (isBetween || document.activeElement !== time)
        time.value = isBetween ? "between" : filters.last;
      between.hidden = time.value !== "between";
      for (const [value, button] of status.buttons)
        button.setAttribute("aria-pressed", String(filters.status.includes(value)));
      for (const [value, button] of priority.buttons)
        button.setAttribute("aria-pressed", String(filters.priority.includes(value)));
      clear.hidden = !filters.isActive;
    },
    close: () => clearTimeout(timer),
  };
}

function put(input, value) {
  if (document.activeElement !== input && input.value !== value) input.value = value;
}

function toggled(values, value) {
  return values.includes(value) ? values.filter((each) => each !== value) : [...values, value];
}
