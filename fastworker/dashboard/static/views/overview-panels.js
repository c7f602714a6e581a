// What is below the overview's charts: the queues, the latest failures, all that was
// done since the start, and the control plane itself.

import * as api from "../api.js";
import { now } from "../clock.js";
import { foreign, h, KeyedChildren, s, say } from "../dom.js";
import { bytes, count, exactly, moment, span } from "../format.js";
import { age, bar, facts, PRIORITIES } from "../parts.js";
import { link } from "../router.js";

export function makeQueues() {
  const rows = PRIORITIES.map((priority) => {
    const meter = bar(`Queued with priority ${priority}`);
    const number = h("strong", {});
    const line = h(
      "a",
      { class: "queue-line", href: link("tasks", null, { status: "pending", priority }) },
      h("span", { class: `priority priority-${priority}` }, priority),
      meter.element,
      number,
    );
    return { priority, meter, number, line };
  });
  const note = h("p", { class: "muted" });
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "queues-title" },
      h("h2", { id: "queues-title" }, "Queues"),
      rows.map(({ line }) => line),
      note,
    ),
    draw({ queued, queued_bytes, max_queued, max_queued_bytes }) {
      const most = Math.max(...PRIORITIES.map((priority) => queued[priority]), 1);
      for (const { priority, meter, number } of rows) {
        meter.set(queued[priority], most, `tone-${priority}`);
        say(number, exactly(queued[priority]));
      }
      say(
        note,
        `${bytes(queued_bytes)} of ${bytes(max_queued_bytes)}; room for ${count(max_queued)} tasks`,
      );
    },
  };
}

export function makeFailures() {
  const list = h("ul", { class: "failures" });
  const rows = new KeyedChildren(list);
  const none = h("p", { class: "muted" }, "No task has failed.");
  let seen = null;
  let isAsking = false;
  const control = new AbortController();
  async function load(failed) {
    isAsking = true;
    try {
      const { tasks } = await api.tasks(
        new URLSearchParams({ status: "failure", limit: 5 }),
        control.signal,
      );
      seen = failed;
      none.hidden = tasks.length > 0;
      rows.show(
        tasks,
        ({ task_id }) => task_id,
        (task) => ({
          element: h(
            "li",
            {},
            h(
              "a",
              { href: link("tasks", task.task_id, { status: "failure" }) },
              foreign(task.name),
            ),
            age(task.changed_at),
            h("p", { class: "error-line" }, foreign(task.error)),
          ),
          update() {},
        }),
      );
    } catch {
      // Said by the banner if it lasts; the next change asks again.
    } finally {
      // Not with every failure of a storm.
      setTimeout(() => (isAsking = false), 2_000);
    }
  }
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "failures-title" },
      h(
        "h2",
        { id: "failures-title" },
        h("a", { href: link("tasks", null, { status: "failure" }) }, "Latest failures"),
      ),
      list,
      none,
    ),
    draw({ failed }) {
      if (failed !== seen && !isAsking) load(failed);
    },
    close: () => control.abort(),
  };
}

const ENDED = [
  ["succeeded", "Succeeded", "success"],
  ["failed", "Failed", "failure"],
  ["cancelled", "Cancelled", "cancelled"],
  ["expired", "Expired", "expired"],
];

export function makeTotals() {
  const pieces = ENDED.map(([, , tone]) =>
    s("rect", { class: `area solid tone-${tone}`, y: 0, height: 8 }),
  );
  const strip = s(
    "svg",
    {
      class: "strip",
      viewBox: "0 0 100 8",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    pieces,
  );
  const names = [["submitted", "Submitted"], ...ENDED, ["refused", "Refused"]];
  const values = names.map(() => h("span", {}));
  const shown = facts(
    names.map(([, label, tone], index) => [
      tone ? h("span", {}, h("span", { class: `swatch tone-${tone}` }), label) : label,
      values[index],
    ]),
  );
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "totals-title" },
      h("h2", { id: "totals-title" }, "Since the start"),
      strip,
      shown,
    ),
    draw(overview) {
      names.forEach(([key], index) => say(values[index], exactly(overview[key])));
      const ended = ENDED.reduce((sum, [key]) => sum + overview[key], 0);
      let from = 0;
      ENDED.forEach(([key], index) => {
        const width = ended ? (100 * overview[key]) / ended : 0;
        pieces[index].setAttribute("x", from);
        pieces[index].setAttribute("width", width);
        from += width;
      });
    },
  };
}

export function makePlane() {
  const [name, version, up, store, clients, functions] = [
    "bdi",
    "bdi",
    "time",
    "bdi",
    "span",
    "a",
  ].map((element) => h(element, {}));
  functions.href = link("functions");
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "plane-title" },
      h("h2", { id: "plane-title" }, "Control plane"),
      facts([
        ["Name", name],
        ["Version", version],
        ["Up for", up],
        ["Store", store],
        ["Clients", clients],
        ["Task functions", functions],
      ]),
    ),
    draw(overview) {
      say(name, overview.worker_id);
      say(version, overview.version);
      say(up, span(now() - overview.started_at));
      up.title = moment(overview.started_at);
      say(store, overview.is_durable ? overview.store : `${overview.store} (ends with it)`);
      say(clients, exactly(overview.clients));
      say(functions, exactly(overview.functions));
    },
  };
}
