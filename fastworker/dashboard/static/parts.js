// Small things that several views are made of: badges, panels that say that
// there is nothing, skeletons while something is awaited, ages that go on.

import { everySecond, now } from "./clock.js";
import { foreign, h, say } from "./dom.js";
import { ago, moment, seconds } from "./format.js";
import { icon } from "./icons.js";
import { toast } from "./toasts.js";

export const STATUSES = ["pending", "started", "success", "failure", "cancelled", "expired"];
export const PRIORITIES = ["critical", "high", "normal", "low"];

// What a task is doing, where that says more than its status.
const STATES = ["queued", "leased", "retrying"];

/** A task's state: a word and a colour. */
export function statusBadge({ status, state, cancel_requested }) {
  const word =
    cancel_requested && (status === "pending" || status === "started")
      ? "cancelling"
      : STATES.includes(state)
        ? state
        : status;
  return h(
    "span",
    { class: `badge status-${word === "retrying" || word === "cancelling" ? word : status}` },
    word,
  );
}

export function priorityMark(priority) {
  return h(
    "span",
    { class: `priority priority-${PRIORITIES.includes(priority) ? priority : "normal"}` },
    priority,
  );
}

/** Have a screen reader say it when it has said what it says now. */
export function announce(text) {
  say(document.getElementById("announcer"), text);
}

/** Nothing is here, why, and perhaps what to do. */
export function emptyPanel(name, title, text, ...more) {
  return h(
    "div",
    { class: "empty" },
    h("div", { class: "empty-icon" }, icon(name)),
    h("h2", {}, title),
    h("p", {}, text),
    more,
  );
}

/** It could not be had; `again` tries once more. */
export function errorPanel(error, again) {
  return h(
    "div",
    { class: "empty is-error", role: "alert" },
    h("div", { class: "empty-icon" }, icon("plug")),
    h("h2", {}, "This could not be loaded"),
    h("p", {}, error.message),
    h("button", { type: "button", class: "button", click: again }, icon("retry"), "Try again"),
  );
}

/** Grey bars where something will be. */
export function skeleton(rows, name = "skeleton-row") {
  return h(
    "div",
    { class: "skeleton", role: "status" },
    h("span", { class: "visually-hidden" }, "Loading"),
    Array.from({ length: rows }, () => h("div", { class: name, "aria-hidden": "true" })),
  );
}

/** How long ago it was; it goes on by itself, see `keepAges`. */
export function age(iso) {
  const at = seconds(iso);
  if (at === null) return h("span", { class: "muted" }, "–");
  return h("time", { datetime: iso, title: moment(at), "data-age": at }, ago(now() - at));
}

/** Have the ages inside an element go on, until the answer is called. */
export function keepAges(element) {
  return everySecond(() => {
    for (const time of element.querySelectorAll("[data-age]"))
      say(time, ago(now() - Number(time.dataset.age)));
  });
}

/** A button that copies a text. */
export function copyButton(text, what) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied the ${what}`);
    } catch {
      toast(`The browser does not allow to copy the ${what}`, { kind: "error" });
    }
  };
  return h(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": `Copy the ${what}`,
      title: `Copy the ${what}`,
      click: copy,
    },
    icon("copy"),
  );
}

/** A bar that is filled to a share; a native meter cannot be coloured everywhere. */
export function bar(label) {
  const fill = h("span", { class: "bar-fill" });
  const element = h(
    "span",
    { class: "bar", role: "meter", "aria-label": label, "aria-valuemin": 0 },
    fill,
  );
  return {
    element,
    set(value, most, tone = "") {
      fill.style.inlineSize = `${most ? Math.min(100, (100 * value) / most) : 0}%`;
      fill.className = `bar-fill ${tone}`;
      element.setAttribute("aria-valuemax", most);
      element.setAttribute("aria-valuenow", value);
    },
  };
}

/** Name and value of facts; a null value is left out. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) =>
        h(
          "div",
          {},
          h("dt", {}, name),
          h("dd", {}, typeof value === "string" ? foreign(value) : value),
        ),
      ),
  );
}
