// What can be called: the task functions that workers have registered.

import * as api from "../api.js";
import { foreign, h, say, show } from "../dom.js";
import { duration, exactly, many } from "../format.js";
import { icon } from "../icons.js";
import { emptyPanel, errorPanel, facts, skeleton } from "../parts.js";
import { go, link } from "../router.js";

export const title = "Task functions";

export function open(outlet, route) {
  let query = route.query;
  let known = null;
  const control = new AbortController();
  const field = h("input", {
    type: "search",
    class: "input",
    placeholder: "Filter by name or words",
    "aria-label": "Filter task functions",
    value: query.get("text") ?? "",
    input: () =>
      go(link("functions", null, field.value ? { text: field.value } : null), {
        replace: true,
      }),
  });
  const summary = h("p", { class: "muted", role: "status" });
  const list = h("ul", { class: "function-list" });
  show(
    outlet,
    h("div", { class: "toolbar" }, h("div", { class: "search" }, icon("search"), field)),
    summary,
    list,
  );

  function draw() {
    const wanted = (query.get("text") ?? "").toLowerCase();
    const chosen = known.filter(({ name, doc }) =>
      `${name} ${doc}`.toLowerCase().includes(wanted),
    );
    say(
      summary,
      `${many(known.length, "function")}${chosen.length < known.length ? `, ${chosen.length} shown` : ""}`,
    );
    if (chosen.length) show(list, chosen.map(makeFunction));
    else if (known.length)
      show(
        list,
        h(
          "li",
          {},
          emptyPanel(
            "search",
            "No such function",
            "Neither a name nor a description contains the text.",
          ),
        ),
      );
    else
      show(
        list,
        h(
          "li",
          {},
          emptyPanel(
            "functions",
            "No function is known",
            "Workers bring them when they join. Decorate a function with @task, and start a worker with its module:",
            h("pre", { class: "code" }, "fastworker subworker --task-modules my_tasks"),
          ),
        ),
      );
  }

  async function load() {
    show(list, h("li", {}, skeleton(5, "skeleton-card")));
    say(summary, "");
    try {
      known = (await api.functions(control.signal)).functions.toSorted((a, b) =>
        a.name.localeCompare(b.name),
      );
    } catch (error) {
      if (!control.signal.aborted) show(list, h("li", {}, errorPanel(error, load)));
      return;
    }
    draw();
  }

  load();
  return {
    update(changed) {
      query = changed.query;
      if (document.activeElement !== field) field.value = query.get("text") ?? "";
      if (known) draw();
    },
    key(key) {
      if (key === "r") load();
      return key === "r";
    },
    close: () => control.abort(),
  };
}

function more({ workers, worker_count }) {
  return worker_count > workers.length
    ? ` and ${exactly(worker_count - workers.length)} more`
    : "";
}

function makeFunction(each) {
  const [first, ...others] = each.doc.trim().split("\n");
  const rest = others.join("\n").trim();
  return h(
    "li",
    { class: "card function" },
    h(
      "div",
      { class: "function-head" },
      h(
        "h2",
        {},
        h(
          "a",
          { href: link("tasks", null, { name: each.name }), "data-row": true },
          foreign(each.name),
        ),
      ),
      h("code", { class: "signature" }, foreign(each.signature)),
    ),
    first && h("p", {}, foreign(first)),
    rest &&
      h("details", {}, h("summary", {}, "More"), h("pre", { class: "doc" }, foreign(rest))),
    facts([
      ["Lane", each.lane],
      ["Retries", exactly(each.retries)],
      ["Timeout", each.timeout ? duration(each.timeout) : "none"],
      ["Grace", duration(each.grace)],
      ["If its worker is lost", each.on_lost],
      ["Kind", each.is_stream ? "stream" : null],
      [
        "Workers",
        each.workers.length
          ? h(
              "span",
              {},
              each.workers.map((worker, index) => [
                index ? ", " : "",
                h(
                  "a",
                  { href: link("tasks", null, { name: each.name, worker }) },
                  foreign(worker),
                ),
              ]),
              more(each),
            )
          : "none",
      ],
    ]),
  );
}
