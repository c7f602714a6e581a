// The first page: is all well, how much is going on, and where is it stuck?

import * as api from "../api.js";
import { Chart, Sparkline } from "../charts.js";
import { everySecond, now } from "../clock.js";
import { cluster, on } from "../cluster.js";
import { foreign, h, KeyedChildren, s, say, show } from "../dom.js";
import { bytes, count, duration, exactly, many, moment, rate, span } from "../format.js";
import { age, bar, facts, PRIORITIES, skeleton } from "../parts.js";
import { go, link } from "../router.js";

export const title = "Overview";
const WINDOWS = [[60, "1 min"], [120, "2 min"], [300, "5 min"], [600, "10 min"]];
const SPARK = 60;

const CHARTS = [
  {
    title: "Throughput",
    unit: "tasks per second",
    format: rate,
    series: [
      { key: "submitted", label: "submitted", tone: "submitted", value: (point) => point.submitted },
      { key: "succeeded", label: "succeeded", tone: "success", value: (point) => point.succeeded },
      { key: "failed", label: "failed", tone: "failure", value: (point) => point.failed },
    ],
  },
  {
    title: "Latency",
    unit: "submit to end",
    format: duration,
    series: [
      { key: "p50", label: "p50", tone: "p50", value: (point) => point.p50 },
      { key: "p99", label: "p99", tone: "p99", value: (point) => point.p99 },
    ],
  },
  {
    title: "Queue depth",
    unit: "by priority",
    format: count,
    stacked: true,
    isWhole: true,
    // The least urgent at the bottom.
    series: PRIORITIES.toReversed().map((key) => ({ key, label: key, tone: key, value: (point) => point.queued[key] })),
  },
  {
    title: "Running",
    unit: "tasks at once",
    format: count,
    isWhole: true,
    series: [{ key: "running", label: "running", tone: "running", value: (point) => point.running }],
  },
];

export function open(outlet, { query }) {
  const charts = CHARTS.map((options) => new Chart(options));
  const tiles = makeTiles();
  const attention = h("ul", { class: "attention", "aria-label": "Needs attention" });
  const queues = makeQueues();
  const totals = makeTotals();
  const plane = makePlane();
  const failures = makeFailures();
  const chosen = makeWindows(Number(query.get("window")) || 300);
  const body = h(
    "div",
    { class: "overview live-data" },
    attention,
    tiles.element,
    h("div", { class: "section-head" }, h("h2", {}, "The last minutes"), chosen.element),
    h("div", { class: "charts" }, charts.map((chart) => chart.element)),
    h("div", { class: "panels" }, queues.element, failures.element, totals.element, plane.element),
  );
  let isShown = false;

  function draw() {
    const { overview, history, workers } = cluster;
    if (!overview) return;
    if (!isShown) {
      isShown = true;
      show(outlet, body);
    }
    drawAttention(attention, overview, workers);
    tiles.draw(overview, history, workers);
    queues.draw(overview);
    totals.draw(overview);
    plane.draw(overview);
    failures.draw(overview);
    drawCharts();
  }

  let drawnAt = null;
  function drawCharts() {
    const last = cluster.history.at(-1)?.at ?? 0;
    if (last === drawnAt) return;
    drawnAt = last;
    for (const chart of charts) chart.draw(cluster.history, chosen.value());
  }

  show(outlet, skeleton(6, "skeleton-tile"));
  draw();
  const stops = [on("change", draw), everySecond(() => cluster.overview && plane.draw(cluster.overview))];
  return {
    update({ query: changed }) {
      chosen.set(Number(changed.get("window")) || 300);
      drawnAt = null;
      drawCharts();
    },
    close() {
      for (const stop of stops) stop();
      for (const chart of charts) chart.close();
      failures.close();
    },
  };
}

function makeWindows(first) {
  let chosen = first;
  const buttons = WINDOWS.map(([seconds, label]) => {
    const choose = () => go(link("overview", null, seconds === 300 ? null : { window: seconds }), { replace: true });
    return [seconds, h("button", { type: "button", class: "segment", click: choose }, label)];
  });
  const mark = () => {
    for (const [seconds, button] of buttons) button.setAttribute("aria-pressed", String(seconds === chosen));
  };
  mark();
  return {
    element: h("div", { class: "segments", role: "group", "aria-label": "How far back" }, buttons.map(([, button]) => button)),
    value: () => chosen,
    set(seconds) {
      chosen = seconds;
      mark();
    },
  };
}

function makeTiles() {
  const tile = (name, tone, address, note = "") => {
    const value = h("strong", { class: "tile-value" });
    const unit = h("small", {}, note);
    const under = h("span", { class: "tile-note" });
    const spark = tone ? new Sparkline(tone) : null;
    const element = h("a", { class: "card tile", href: address }, h("span", { class: "tile-name" }, name), h("span", { class: "tile-line" }, value, " ", unit), under, spark?.element);
    return { element, spark, set: (main, beside, below) => (say(value, main), say(unit, beside), say(under, below)) };
  };
  const all = {
    throughput: tile("Throughput", "success", link("tasks", null, { status: "success" })),
    failures: tile("Failures", "failure", link("tasks", null, { status: "failure" })),
    latency: tile("Latency", "p99", link("tasks")),
    queued: tile("Queued", "submitted", link("tasks", null, { status: "pending" })),
    running: tile("Running", "running", link("tasks", null, { status: "started" })),
    workers: tile("Workers", null, link("workers")),
  };
  const load = bar("Load of all workers");
  all.workers.element.append(load.element);
  return {
    element: h("div", { class: "tiles" }, Object.values(all).map(({ element }) => element)),
    draw(overview, history, workers) {
      const { rates, latency } = overview;
      const recent = history.slice(-SPARK);
      const sum = (queued) => Object.values(queued).reduce((total, value) => total + value, 0);
      const list = [...workers.values()];
      const capacity = list.reduce((total, worker) => total + worker.capacity, 0);
      const used = list.reduce((total, worker) => total + worker.load, 0);
      const isWell = (worker) => worker.status === "active";
      all.throughput.set(rate(rates.succeeded), "per s", `${rate(rates.submitted)} per s submitted`);
      all.failures.set(rate(rates.failed), "per s", `${count(overview.failed)} failed since the start`);
      all.latency.set(duration(latency.p50), "p50", `${duration(latency.p99)} p99 · ${duration(latency.wait_p50)} wait`);
      all.queued.set(count(sum(overview.queued)), "", `${count(overview.retrying)} retrying · ${count(overview.held)} held`);
      all.running.set(count(overview.running), "", `${count(overview.leased)} leased, not started`);
      all.workers.set(count(overview.workers), "", list.every(isWell) ? `${used} of ${capacity} places taken` : `${list.filter(isWell).length} active, ${list.length - list.filter(isWell).length} away or draining`);
      load.set(used, capacity);
      all.throughput.spark.draw(recent.map((point) => point.succeeded));
      all.failures.spark.draw(recent.map((point) => point.failed));
      all.latency.spark.draw(recent.map((point) => point.p99));
      all.queued.spark.draw(recent.map((point) => sum(point.queued)));
      all.running.spark.draw(recent.map((point) => point.running));
      all.failures.element.classList.toggle("is-bad", rates.failed > 0 && rates.failed > rates.succeeded / 10);
    },
  };
}

function drawAttention(list, overview, workers) {
  const away = [...workers.values()].filter(({ status }) => status === "away").length;
  const notes = [
    overview.store_error && ["bad", "The store cannot be written: ", foreign(overview.store_error)],
    overview.is_draining && ["warn", "The control plane is ending: it takes no new tasks."],
    !overview.workers && ["warn", "No worker is there: tasks wait until one joins."],
    away && ["warn", h("a", { href: link("workers") }, `${many(away, "worker")} away`), ": the connection is lost, and the tasks wait for their return."],
    overview.held && ["warn", h("a", { href: link("tasks", null, { status: "pending" }) }, `${many(overview.held, "task")} held`), ": no worker knows their function."],
    overview.queued_bytes > overview.max_queued_bytes * 0.8 && ["warn", "The queue's memory is nearly used up: soon, submits will wait."],
  ].filter(Boolean);
  const key = notes.map((note) => note.map((part) => part.textContent ?? part).join("")).join("\n");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  show(list, notes.map(([tone, ...words]) => h("li", { class: `note note-${tone}` }, words)));
}

function makeQueues() {
  const rows = PRIORITIES.map((priority) => {
    const meter = bar(`Queued with priority ${priority}`);
    const number = h("strong", {});
    const line = h("a", { class: "queue-line", href: link("tasks", null, { status: "pending", priority }) }, h("span", { class: `priority priority-${priority}` }, priority), meter.element, number);
    return { priority, meter, number, line };
  });
  const note = h("p", { class: "muted" });
  return {
    element: h("section", { class: "card", "aria-labelledby": "queues-title" }, h("h2", { id: "queues-title" }, "Queues"), rows.map(({ line }) => line), note),
    draw({ queued, queued_bytes, max_queued, max_queued_bytes }) {
      const most = Math.max(...PRIORITIES.map((priority) => queued[priority]), 1);
      for (const { priority, meter, number } of rows) {
        meter.set(queued[priority], most, `tone-${priority}`);
        say(number, exactly(queued[priority]));
      }
      say(note, `${bytes(queued_bytes)} of ${bytes(max_queued_bytes)}; room for ${count(max_queued)} tasks`);
    },
  };
}

function makeFailures() {
  const list = h("ul", { class: "failures" });
  const rows = new KeyedChildren(list);
  const none = h("p", { class: "muted" }, "No task has failed.");
  let seen = null;
  let isAsking = false;
  const control = new AbortController();
  async function load(failed) {
    isAsking = true;
    try {
      const { tasks } = await api.tasks(new URLSearchParams({ status: "failure", limit: 5 }), control.signal);
      seen = failed;
      none.hidden = tasks.length > 0;
      rows.show(tasks, ({ task_id }) => task_id, (task) => ({
        element: h(
          "li",
          {},
          h("a", { href: link("tasks", task.task_id, { status: "failure" }) }, foreign(task.name)),
          age(task.changed_at),
          h("p", { class: "error-line" }, foreign(task.error)),
        ),
        update() {},
      }));
    } catch {
      // Said by the banner if it lasts; the next change asks again.
    } finally {
      // Not with every failure of a storm.
      setTimeout(() => (isAsking = false), 2_000);
    }
  }
  return {
    element: h("section", { class: "card", "aria-labelledby": "failures-title" }, h("h2", { id: "failures-title" }, h("a", { href: link("tasks", null, { status: "failure" }) }, "Latest failures")), list, none),
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

function makeTotals() {
  const pieces = ENDED.map(([, , tone]) => s("rect", { class: `area solid tone-${tone}`, y: 0, height: 8 }));
  const strip = s("svg", { class: "strip", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, pieces);
  const names = [["submitted", "Submitted"], ...ENDED, ["refused", "Refused"]];
  const values = names.map(() => h("span", {}));
  const shown = facts(names.map(([, label, tone], index) => [tone ? h("span", {}, h("span", { class: `swatch tone-${tone}` }), label) : label, values[index]]));
  return {
    element: h("section", { class: "card", "aria-labelledby": "totals-title" }, h("h2", { id: "totals-title" }, "Since the start"), strip, shown),
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

function makePlane() {
  const [name, version, up, store, clients, functions] = ["bdi", "bdi", "time", "bdi", "span", "a"].map((element) => h(element, {}));
  functions.href = link("functions");
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "plane-title" },
      h("h2", { id: "plane-title" }, "Control plane"),
      facts([["Name", name], ["Version", version], ["Up for", up], ["Store", store], ["Clients", clients], ["Task functions", functions]]),
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
