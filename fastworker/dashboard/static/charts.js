// Charts of the last minutes, drawn as SVG so that their colours follow the theme.
// Each is a figure: a caption with the values of now, the lines, and a cross-hair.

import { h, s, say, show } from "./dom.js";
import { clock } from "./format.js";

const PAD = { left: 46, right: 10, top: 10, bottom: 22 };
const HEIGHT = 190;
// A line does not bridge what nobody saw.
const GAP = 4;

/**
 * One chart. Its series are `{key, label, tone, value(point)}`; `tone` names a
 * colour in charts.css. Stacked ones lie on each other, the first at the bottom;
 * of whole numbers (`isWhole`) there is nothing to show between 0 and 1, and
 * seconds (`isTime`) make minutes.
 */
export class Chart {
  #options;
  #points = [];
  #window = 300;
  #width = 0;
  #hovered = null;

  constructor({ title, unit, series, format, stacked = false, ...scale }) {
    this.#options = { title, unit, series, format, stacked, scale };
    this.#legend = series.map(({ label, tone }) => {
      const value = h("span", { class: "legend-value" });
      const entry = h("li", {}, h("span", { class: `swatch tone-${tone}` }), label, " ", value);
      return { entry, value };
    });
    this.#svg = s("svg", { class: "plot", role: "img", height: HEIGHT });
    this.#tip = h("div", { class: "chart-tip", hidden: true });
    this.#frame = h("div", { class: "chart-frame" }, this.#svg, this.#tip);
    this.element = h(
      "figure",
      { class: "card chart" },
      h(
        "figcaption",
        {},
        h("h2", {}, title, " ", h("small", {}, unit)),
        h(
          "ul",
          { class: "legend" },
          this.#legend.map(({ entry }) => entry),
        ),
      ),
      this.#frame,
    );
    this.#frame.addEventListener("pointermove", (event) => this.#hover(event));
    this.#frame.addEventListener("pointerleave", () => this.#leave());
    this.#observer = new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      this.#render();
    });
    this.#observer.observe(this.#frame);
  }

  #legend;
  #svg;
  #tip;
  #frame;
  #observer;

  /** Draw these points, of which the last is now; `window` is in seconds. */
  draw(points, window) {
    this.#window = window;
    const end = points.at(-1)?.at ?? 0;
    this.#points = points.filter(({ at }) => at >= end - window);
    this.#render();
  }

  close() {
    this.#observer.disconnect();
  }

  #render() {
    const { series, format, title, unit } = this.#options;
    const last = this.#points.at(-1);
    series.forEach(({ value }, index) => {
      say(this.#legend[index].value, last ? format(value(last)) : "–");
    });
    this.#svg.setAttribute(
      "aria-label",
      last
        ? `${title}, ${unit}, now: ${series.map((each) => `${each.label} ${format(each.value(last))}`).join(", ")}`
        : `${title}: nothing yet`,
    );
    if (!this.#width) return;
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    this.#svg.setAttribute("width", this.#width);
    const scale = this.#scale();
    show(this.#svg, this.#grid(scale), this.#shapes(scale), this.#cross(scale));
  }

  #scale() {
    const end = this.#points.at(-1)?.at ?? 0;
    const [ticks, top] = niceTicks(this.#highest(), this.#options.scale);
    const inner = {
      width: this.#width - PAD.left - PAD.right,
      height: HEIGHT - PAD.top - PAD.bottom,
    };
    return {
      ticks,
      end,
      x: (at) => PAD.left + inner.width * (1 - (end - at) / this.#window),
      y: (value) => PAD.top + inner.height * (1 - value / top),
      at: (x) => end - this.#window * (1 - (x - PAD.left) / inner.width),
    };
  }

  #highest() {
    const { series, stacked } = this.#options;
    let highest = 0;
    for (const point of this.#points) {
      const values = series.map(({ value }) => value(point) ?? 0);
      highest = Math.max(
        highest,
        stacked ? values.reduce((sum, v) => sum + v, 0) : Math.max(...values),
      );
    }
    return highest;
  }

  #grid({ ticks, x, y, end }) {
    const right = this.#width - PAD.right;
    const lines = ticks.map((tick) => [
      s("line", {
        class: tick ? "grid" : "axis",
        x1: PAD.left,
        x2: right,
        y1: y(tick),
        y2: y(tick),
      }),
      s(
        "text",
        { class: "tick", x: PAD.left - 8, y: y(tick) + 4, "text-anchor": "end" },
        this.#options.format(tick),
      ),
    ]);
    const steps = this.#width < 420 ? 2 : 5;
    const times = Array.from({ length: steps + 1 }, (_, step) => {
      const before = Math.round((this.#window * (steps - step)) / steps);
      const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
      return s(
        "text",
        { class: "tick", x: x(end - before), y: HEIGHT - 5, "text-anchor": anchor },
        before ? `−${before % 60 ? `${before} s` : `${before / 60} min`}` : "now",
      );
    });
    return s("g", { "aria-hidden": "true" }, lines, times);
  }

  #shapes({ x, y }) {
    const { series, stacked } = this.#options;
    const shapes = [];
    const ground = this.#points.map(() => 0);
    let floor = ground;
    for (const { value, tone } of series) {
      const base = floor;
      const tops = this.#points.map((point, index) => {
        const here = value(point);
        return here === null || here === undefined ? null : here + base[index];
      });
      // Nothing of a kind would be drawn as its colour on top of the others.
      const isFlat = (index) =>
        stacked &&
        base !== ground &&
        [-1, 0, 1].every(
          (step) => !(this.#points[index + step] && value(this.#points[index + step])),
        );
      const drawn = tops.map((top, index) => (isFlat(index) ? null : top));
      for (const run of runs(this.#points, drawn)) {
        const line = run.map(
          (index) => `${x(this.#points[index].at).toFixed(1)},${y(tops[index]).toFixed(1)}`,
        );
        const back = run
          .toReversed()
          .map(
            (index) => `${x(this.#points[index].at).toFixed(1)},${y(base[index]).toFixed(1)}`,
          );
        shapes.push(
          s("path", { class: `area tone-${tone}`, d: `M${line.join("L")}L${back.join("L")}Z` }),
          s("path", { class: `line tone-${tone}`, d: `M${line.join("L")}` }),
        );
      }
      if (stacked) floor = tops.map((top, index) => top ?? base[index]);
    }
    return shapes;
  }

  #cross({ x, y, at }) {
    const { series, format, stacked } = this.#options;
    if (this.#hovered === null || !this.#points.length) {
      this.#tip.hidden = true;
      return null;
    }
    const wanted = at(this.#hovered);
    const point = this.#points.reduce((best, each) =>
      Math.abs(each.at - wanted) < Math.abs(best.at - wanted) ? each : best,
    );
    let sum = 0;
    const dots = series.map(({ value, tone }) => {
      const here = value(point);
      if (here === null || here === undefined) return null;
      sum = stacked ? sum + here : here;
      return s("circle", { class: `dot tone-${tone}`, cx: x(point.at), cy: y(sum), r: 3.5 });
    });
    show(
      this.#tip,
      h("strong", {}, clock(point.at)),
      series.map(({ label, tone, value }) =>
        h(
          "div",
          {},
          h("span", { class: `swatch tone-${tone}` }),
          label,
          h("span", { class: "legend-value" }, format(value(point))),
        ),
      ),
    );
    this.#tip.hidden = false;
    const left = x(point.at);
    const isRight = left > this.#width / 2;
    this.#tip.style.left = `${isRight ? left - this.#tip.offsetWidth - 12 : left + 12}px`;
    return s(
      "g",
      { "aria-hidden": "true" },
      s("line", { class: "cross", x1: left, x2: left, y1: PAD.top, y2: HEIGHT - PAD.bottom }),
      dots,
    );
  }

  #hover(event) {
    this.#hovered = event.clientX - this.#frame.getBoundingClientRect().left;
    this.#render();
  }

  #leave() {
    this.#hovered = null;
    this.#render();
  }
}

/** A line of a value's last minute beside the value: no axes, no words. */
export class Sparkline {
  #tone;

  constructor(tone) {
    this.#tone = tone;
    this.element = s("svg", {
      class: "sparkline",
      viewBox: "0 0 100 30",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
  }

  draw(values) {
    const known = values.map((value) => value ?? 0);
    const top = Math.max(...known, 1e-9);
    const line = known.map((value, index) => {
      const x = (100 * index) / Math.max(known.length - 1, 1);
      return `${x.toFixed(1)},${(28 - 26 * (value / top)).toFixed(1)}`;
    });
    show(
      this.element,
      line.length > 1 && [
        s("path", { class: `area tone-${this.#tone}`, d: `M0,30L${line.join("L")}L100,30Z` }),
        s("path", { class: `line tone-${this.#tone}`, d: `M${line.join("L")}` }),
      ],
    );
  }
}

// A minute has sixty seconds: steps of 100 s would be 1 min 40 s.
const LONG_STEPS = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/** Ticks from 0 up by 1, 2 or 5 times a power of ten, and where the scale ends. */
export function niceTicks(highest, { isWhole = false, isTime = false } = {}, wanted = 4) {
  const top = highest || 1;
  const raw = Math.max(top / wanted, isWhole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(raw));
  const long = isTime && top > 40 ? LONG_STEPS.find((each) => each >= raw) : undefined;
  const step = long ?? [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const steps = Math.max(1, Math.ceil(top / step - 1e-9));
  const ticks = Array.from({ length: steps + 1 }, (_, index) => +(index * step).toPrecision(6));
  return [ticks, steps * step];
}

// Stretches of points that are seen one after the other: lists of indices.
function runs(points, values) {
  const found = [];
  let run = [];
  points.forEach(({ at }, index) => {
    if (run.length && (values[index] === null || at - points[run.at(-1)].at > GAP)) {
      found.push(run);
      run = [];
    }
    if (values[index] !== null) run.push(index);
  });
  if (run.length) found.push(run);
  return found.filter(({ length }) => length > 1);
}
