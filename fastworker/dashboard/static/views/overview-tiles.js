// The numbers at the top of the overview, each with its last minute beside it.

import { Sparkline } from "../charts.js";
import { h, say } from "../dom.js";
import { count, duration, rate } from "../format.js";
import { bar } from "../parts.js";
import { link } from "../router.js";

const SPARK = 60;

export function makeTiles() {
  const tile = (name, tone, address, note = "") => {
    const value = h("strong", { class: "tile-value" });
    const unit = h("small", {}, note);
    const under = h("span", { class: "tile-note" });
    const spark = tone ? new Sparkline(tone) : null;
    const element = h(
      "a",
      { class: "card tile", href: address },
      h("span", { class: "tile-name" }, name),
      h("span", { class: "tile-line" }, value, " ", unit),
      under,
      spark?.element,
    );
    return {
      element,
      spark,
      set: (main, beside, below) => (say(value, main), say(unit, beside), say(under, below)),
    };
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
    element: h(
      "div",
      { class: "tiles" },
      Object.values(all).map(({ element }) => element),
    ),
    draw(overview, history, workers) {
      const { rates, latency } = overview;
      const recent = history.slice(-SPARK);
      const sum = (queued) => Object.values(queued).reduce((total, value) => total + value, 0);
      const list = [...workers.values()];
      const capacity = list.reduce((total, worker) => total + worker.capacity, 0);
      const used = list.reduce((total, worker) => total + worker.load, 0);
      const isWell = (worker) => worker.status === "active";
      all.throughput.set(
        rate(rates.succeeded),
        "per s",
        `${rate(rates.submitted)} per s submitted`,
      );
      all.failures.set(
        rate(rates.failed),
        "per s",
        `${count(overview.failed)} since the start`,
      );
      all.latency.set(
        duration(latency.p50),
        "p50",
        `${duration(latency.p99)} p99 · ${duration(latency.wait_p50)} wait`,
      );
      all.queued.set(
        count(sum(overview.queued)),
        "",
        `${count(overview.retrying)} retrying · ${count(overview.held)} held`,
      );
      all.running.set(
        count(overview.running),
        "",
        `${count(overview.leased)} leased, not started`,
      );
      all.workers.set(
        count(overview.workers),
        "",
        list.every(isWell)
          ? `${used} of ${capacity} places taken`
          : `${list.filter(isWell).length} active, ${list.length - list.filter(isWell).length} away or draining`,
      );
      load.set(used, capacity);
      all.throughput.spark.draw(recent.map((point) => point.succeeded));
      all.failures.spark.draw(recent.map((point) => point.failed));
      all.latency.spark.draw(recent.map((point) => point.p99));
      all.queued.spark.draw(recent.map((point) => sum(point.queued)));
      all.running.spark.draw(recent.map((point) => point.running));
      all.failures.element.classList.toggle(
        "is-bad",
        rates.failed > 0 && rates.failed > rates.succeeded / 10,
      );
    },
  };
}
