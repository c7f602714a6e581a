// Who does the work: how much each has, in which lanes, what it runs, and
// whether it is still heard of.

import { drainWorker } from "../actions.js";
import { everySecond, now } from "../clock.js";
import { cluster, on } from "../cluster.js";
import { foreign, h, KeyedChildren, say, show } from "../dom.js";
import { ago, exactly, many, moment, span } from "../format.js";
import { icon } from "../icons.js";
import { bar, emptyPanel, skeleton } from "../parts.js";
import { go, link } from "../router.js";

export const title = "Workers";
const RUNNING_SHOWN = 6;
const ORDERS = {
  joined: (a, b) => a.joined_at - b.joined_at,
  load: (a, b) => b.load / (b.capacity || 1) - a.load / (a.capacity || 1),
  name: (a, b) => a.worker_id.localeCompare(b.worker_id),
};

export function open(outlet, route) {
  let query = route.query;
  const field = h("input", {
    type: "search",
    class: "input",
    placeholder: "Filter by name, address or function",
    "aria-label": "Filter workers",
    value: query.get("text") ?? "",
    input: () => choose("text", field.value),
  });
  const order = h(
    "select",
    { class: "input", "aria-label": "Order", change: () => choose("order", order.value) },
    [
      ["joined", "First joined"],
      ["load", "Highest load"],
      ["name", "Name"],
    ].map(([value, label]) =>
      h("option", { value, selected: value === query.get("order") }, label),
    ),
  );
  const summary = h("p", { class: "muted" });
  const grid = h("ul", { class: "worker-grid live-data" });
  const cards = new KeyedChildren(grid);
  const empty = h("div", {});
  show(
    outlet,
    h("div", { class: "toolbar" }, h("div", { class: "search" }, icon("search"), field), order),
    summary,
    grid,
    empty,
  );

  function choose(key, value) {
    const changed = new URLSearchParams(query);
    if (value && value !== "joined") changed.set(key, value);
    else changed.delete(key);
    go(link("workers", null, changed), { replace: true });
  }

  function draw() {
    if (!cluster.overview) return;
    const wanted = (query.get("text") ?? "").toLowerCase();
    const all = [...cluster.workers.values()];
    const chosen = all
      .filter((worker) =>
        [worker.worker_id, worker.address, ...worker.functions].some((text) =>
          text.toLowerCase().includes(wanted),
        ),
      )
      .sort(ORDERS[query.get("order")] ?? ORDERS.joined);
    cards.show(chosen, ({ worker_id }) => worker_id, makeCard);
    const busy = all.reduce((sum, { load }) => sum + load, 0);
    const places = all.reduce((sum, { capacity }) => sum + capacity, 0);
    say(
      summary,
      `${many(all.length, "worker")} · ${exactly(busy)} of ${exactly(places)} places taken${chosen.length < all.length ? ` · ${chosen.length} shown` : ""}`,
    );
    const state = chosen.length ? "" : all.length ? "filtered" : "none";
    if (empty.dataset.state === state) return;
    empty.dataset.state = state;
    show(
      empty,
      state === "filtered" &&
        emptyPanel(
          "search",
          "No such worker",
          "Its name, address or one of its functions has to contain the text.",
        ),
      state === "none" &&
        emptyPanel(
          "workers",
          "No worker is here",
          "Tasks wait until one joins. Start one with:",
          h("pre", { class: "code" }, "fastworker subworker --task-modules my_tasks"),
        ),
    );
  }

  show(empty, skeleton(4, "skeleton-card"));
  draw();
  const stops = [
    on("change", draw),
    everySecond(() => {
      for (const worker of cluster.workers.values()) cards.get(worker.worker_id)?.tick(worker);
    }),
  ];
  return {
    update(changed) {
      query = changed.query;
      if (document.activeElement !== field) field.value = query.get("text") ?? "";
      draw();
    },
    close() {
      for (const stop of stops) stop();
    },
  };
}

function makeCard(first) {
  const status = h("span", {});
  const load = bar(`Load of ${first.worker_id}`);
  const loadText = h("span", { class: "load-text" });
  const lanes = h("ul", { class: "lanes" });
  const laneRows = new KeyedChildren(lanes);
  const running = h("ul", { class: "running" });
  const runningRows = new KeyedChildren(running);
  const more = h("a", {
    class: "more",
    href: link("tasks", null, { status: "started", worker: first.worker_id }),
  });
  const quiet = h("p", { class: "muted running-none" }, "Runs nothing now.");
  const beat = h("dd", {});
  const joined = h("dd", {});
  const functions = h("dd", {});
  let worker = first;
  const drain = h(
    "button",
    { type: "button", class: "button small", click: () => drainWorker(worker) },
    icon("drain"),
    "Drain",
  );
  const element = h(
    "li",
    { class: "card worker" },
    h(
      "header",
      {},
      h(
        "h2",
        {},
        h(
          "a",
          { href: link("tasks", null, { worker: first.worker_id }), "data-row": true },
          foreign(first.worker_id),
        ),
      ),
      status,
      drain,
    ),
    h(
      "p",
      { class: "muted address" },
      first.is_inside ? "inside the control plane" : foreign(first.address),
    ),
    h("div", { class: "load" }, load.element, loadText),
    lanes,
    h("h3", {}, "Running"),
    running,
    more,
    quiet,
    h(
      "dl",
      { class: "facts worker-facts" },
      h("div", {}, h("dt", {}, "Last beat"), beat),
      h("div", {}, h("dt", {}, "Joined"), joined),
      h("div", {}, h("dt", {}, "Functions"), functions),
    ),
  );
  const card = {
    element,
    update(changed) {
      worker = changed;
      say(status, worker.status);
      status.className = `badge worker-${worker.status}`;
      element.className = `card worker is-${worker.status}`;
      const share = worker.capacity ? worker.load / worker.capacity : 0;
      load.set(worker.load, worker.capacity, share >= 1 ? "is-full" : "");
      say(loadText, `${worker.load} of ${worker.capacity}`);
      drain.hidden = worker.is_inside || worker.status === "draining";
      laneRows.show(worker.lanes, ({ name }) => name, makeLane);
      const shown = worker.running
        .toSorted((a, b) => a.started_at - b.started_at)
        .slice(0, RUNNING_SHOWN);
      runningRows.show(shown, ({ task_id }) => task_id, makeRunning);
      const hidden = (worker.running_count ?? worker.running.length) - shown.length;
      more.hidden = hidden <= 0;
      say(more, `and ${many(hidden, "more task")}`);
      quiet.hidden = shown.length > 0;
      const known = worker.function_count ?? worker.functions.length;
      say(functions, exactly(known));
      functions.title = worker.functions.join("\n");
      card.tick(worker);
    },
    tick() {
      say(beat, ago(now() - worker.beat));
      say(joined, ago(now() - worker.joined_at));
      joined.title = moment(worker.joined_at);
      for (const task of worker.running) runningRows.get(task.task_id)?.tick(task);
    },
  };
  return card;
}

function makeLane(first) {
  const meter = bar(`Lane ${first.name}`);
  const text = h("span", { class: "lane-text" });
  return {
    element: h(
      "li",
      {},
      h("span", { class: "lane-name" }, foreign(first.name)),
      meter.element,
      text,
    ),
    update({ capacity, leased, running }) {
      meter.set(leased, capacity, capacity && leased >= capacity ? "is-full" : "");
      say(text, `${running}/${capacity}`);
      text.title = `${running} running, ${leased} leased, ${capacity} at once`;
    },
  };
}

function makeRunning(first) {
  const time = h("span", { class: "running-time" });
  const progress = h("span", { class: "muted" });
  const tick = ({ started_at }) => say(time, span(now() - started_at));
  return {
    element: h(
      "li",
      {},
      h("a", { href: link("tasks", first.task_id) }, foreign(first.name)),
      progress,
      time,
    ),
    update(task) {
      tick(task);
      const share = task.progress ?? -1;
      say(progress, share >= 0 ? `${Math.round(share * 100)} %` : "");
      progress.title = task.message ?? "";
    },
    tick,
  };
}
