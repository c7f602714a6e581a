// The first page: is all well, how much is going on, and where is it stuck?

import { Chart } from "../charts.js";
import { everySecond } from "../clock.js";
import { cluster, on } from "../cluster.js";
import { foreign, h, show } from "../dom.js";
import { count, duration, many, rate } from "../format.js";
import { PRIORITIES, skeleton } from "../parts.js";
import { go, link } from "../router.js";
import { makeFailures, makePlane, makeQueues, makeTotals } from "./overview-panels.js";
import { makeTiles } from "./overview-tiles.js";

export const title = "Overview";
const WINDOWS = [
  [60, "1 min"],
  [120, "2 min"],
  [300, "5 min"],
  [600, "10 min"],
];

const CHARTS = [
  {
    title: "Throughput",
    unit: "tasks per second",
    format: rate,
    series: [
      {
        key: "submitted",
        label: "submitted",
        tone: "submitted",
        value: (point) => point.submitted,
      },
      {
        key: "succeeded",
        label: "succeeded",
        tone: "success",
        value: (point) => point.succeeded,
      },
      { key: "failed", label: "failed", tone: "failure", value: (point) => point.failed },
    ],
  },
  {
    title: "Latency",
    unit: "submit to end",
    format: duration,
    isTime: true,
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
    series: PRIORITIES.toReversed().map((key) => ({
      key,
      label: key,
      tone: key,
      value: (point) => point.queued[key],
    })),
  },
  {
    title: "Running",
    unit: "tasks at once",
    format: count,
    isWhole: true,
    series: [
      { key: "running", label: "running", tone: "running", value: (point) => point.running },
    ],
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
    h(
      "div",
      { class: "charts" },
      charts.map((chart) => chart.element),
    ),
    h(
      "div",
      { class: "panels" },
      queues.element,
      failures.element,
      totals.element,
      plane.element,
    ),
  );
  let isShown = false;

  function draw() {
    const { overview, history, workers } = cluster;
    if (!overview) return;
    if (!isShown) {
      isShown = true;
      show(outlet, body);
    }
    drawAttention(attention, overview, workers, history);
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
  const stops = [
    on("change", draw),
    everySecond(() => cluster.overview && plane.draw(cluster.overview)),
  ];
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
    const choose = () =>
      go(link("overview", null, seconds === 300 ? null : { window: seconds }), {
        replace: true,
      });
    return [seconds, h("button", { type: "button", class: "segment", click: choose }, label)];
  });
  const mark = () => {
    for (const [seconds, button] of buttons)
      button.setAttribute("aria-pressed", String(seconds === chosen));
  };
  mark();
  return {
    element: h(
      "div",
      { class: "segments", role: "group", "aria-label": "How far back" },
      buttons.map(([, button]) => button),
    ),
    value: () => chosen,
    set(seconds) {
      chosen = seconds;
      mark();
    },
  };
}

function drawAttention(list, overview, workers, history) {
  const away = [...workers.values()].filter(({ status }) => status === "away").length;
  const lost = history.reduce((sum, point) => sum + point.lost_workers, 0);
  const notes = [
    overview.store_error && [
      "bad",
      "The store cannot be written: ",
      foreign(overview.store_error),
    ],
    overview.is_draining && ["warn", "The control plane is ending: it takes no new tasks."],
    !overview.workers && ["warn", "No worker is there: tasks wait until one joins."],
    away && [
      "warn",
      h("a", { href: link("workers") }, `${many(away, "worker")} away`),
      ": the connection is lost, and the tasks wait for their return.",
    ],
    lost && [
      "warn",
      h("a", { href: link("workers") }, `${many(lost, "worker")} lost`),
      " in the last ten minutes, without a goodbye: what they ran runs again elsewhere, or has failed.",
    ],
    overview.held && [
      "warn",
      h(
        "a",
        { href: link("tasks", null, { status: "pending" }) },
        `${many(overview.held, "task")} held`,
      ),
      ": no worker knows their function.",
    ],
    overview.queued_bytes > overview.max_queued_bytes * 0.8 && [
      "warn",
      "The queue's memory is nearly used up: soon, submits will wait.",
    ],
  ].filter(Boolean);
  const key = notes
    .map((note) => note.map((part) => part.textContent ?? part).join(""))
    .join("\n");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  show(
    list,
    notes.map(([tone, ...words]) => h("li", { class: `note note-${tone}` }, words)),
  );
}
