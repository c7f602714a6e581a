// All about one task: what it is, what happened to it and when, what it was
// given, and what came of it. A drawer beside the list; a page of its own on a phone.

import { actOnTask } from "../actions.js";
import * as api from "../api.js";
import { everySecond, now } from "../clock.js";
import { on } from "../cluster.js";
import { foreign, h, say, show } from "../dom.js";
import { call, duration, exactly, moment, precisely, pretty, seconds } from "../format.js";
import { icon } from "../icons.js";
import {
  copyButton,
  emptyPanel,
  errorPanel,
  facts,
  priorityMark,
  skeleton,
  statusBadge,
} from "../parts.js";
import { link } from "../router.js";

const OPEN = ["pending", "started"];
// Of a task that changes often, no more than two answers a second.
const AGAIN = 500;

/** `close()` is called when the operator is done; `changed()` once something was done to it. */
export function makeTaskDetail(taskId, { close, changed }) {
  const control = new AbortController();
  const body = h("div", { class: "drawer-body" });
  const heading = h("h2", { id: "task-title", tabindex: "-1" }, "Task");
  const element = h(
    "aside",
    { class: "drawer", "aria-labelledby": "task-title" },
    h(
      "header",
      { class: "drawer-head" },
      heading,
      h(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": "Close",
          title: "Close (Esc)",
          click: close,
        },
        icon("close"),
      ),
    ),
    body,
  );
  let task = null;
  let timer = null;
  let isAsking = false;
  let isStale = false;

  async function load() {
    if (isAsking) {
      isStale = true;
      return;
    }
    isAsking = true;
    isStale = false;
    try {
      task = await api.task(taskId, control.signal);
      draw();
    } catch (error) {
      if (control.signal.aborted) return;
      if (error.status === 404)
        show(
          body,
          emptyPanel(
            "tasks",
            "This task is not known",
            "It may have been purged, or it ended so long ago that it was forgotten.",
          ),
        );
      else if (!task) show(body, errorPanel(error, load));
    } finally {
      isAsking = false;
      if (isStale && !control.signal.aborted) loadSoon();
    }
  }

  function loadSoon() {
    timer ??= setTimeout(() => {
      timer = null;
      load();
    }, AGAIN);
  }

  async function act(action) {
    if (!(await actOnTask(action, task))) return;
    changed(action, taskId);
    if (action === "purge") close();
    else load();
  }

  let drawn = "";
  function draw() {
    const key = JSON.stringify(task);
    if (key === drawn) return;
    drawn = key;
    const before = document.activeElement?.dataset?.action;
    show(heading, foreign(task.name));
    show(body, sections(task, act));
    if (before) body.querySelector(`[data-action="${before}"]`)?.focus();
  }

  show(body, skeleton(5));
  load();
  const stops = [
    on("tasks", ({ detail: { rows, dropped } }) => {
      const isOpen = task && OPEN.includes(task.status);
      if (rows.some(({ task_id }) => task_id === taskId) || (dropped && isOpen)) loadSoon();
    }),
    on("snapshot", loadSoon),
    everySecond(() => {
      const running = body.querySelector("[data-since]");
      if (running) say(running, duration(now() - Number(running.dataset.since)));
    }),
  ];
  return {
    element,
    taskId,
    focus: () => heading.focus({ preventScroll: true }),
    reload: load,
    close() {
      control.abort();
      clearTimeout(timer);
      for (const stop of stops) stop();
    },
  };
}

function sections(task, act) {
  const isOpen = OPEN.includes(task.status);
  const button = (action, label, tone = "") =>
    h(
      "button",
      {
        type: "button",
        class: `button ${tone}`,
        "data-action": action,
        click: () => act(action),
      },
      icon(action),
      label,
    );
  return [
    h(
      "div",
      { class: "task-head" },
      statusBadge(task),
      priorityMark(task.priority),
      h("span", { class: "mono task-id" }, foreign(task.task_id)),
      copyButton(task.task_id, "task's id"),
    ),
    h(
      "div",
      { class: "task-actions", role: "group", "aria-label": "Actions" },
      isOpen && !task.cancel_requested && button("cancel", "Cancel", "danger"),
      isOpen &&
        task.cancel_requested &&
        h("p", { class: "muted" }, "It was asked to end, and is cleaning up."),
      !isOpen && [button("retry", "Retry", "primary"), button("purge", "Purge", "danger")],
    ),
    task.status !== "success" &&
      task.error &&
      h("p", { class: "note note-bad" }, foreign(task.error)),
    h("section", {}, h("h3", {}, "Timeline"), timeline(task), phases(task)),
    task.status === "success" &&
      code(
        "Result",
        task.result,
        task.is_cut ? "Not shown, or nothing: see below." : "It returned nothing.",
      ),
    task.traceback && code("Traceback", task.traceback),
    code(
      "Arguments",
      task.arguments,
      task.is_cut ? "Not shown, or none: see below." : "It has no arguments.",
      call,
    ),
    listed("Errors of attempts", task.errors),
    listed("Lost workers", task.losses),
    h(
      "section",
      {},
      h("h3", {}, "Facts"),
      facts([
        [
          "Function",
          h("a", { href: link("tasks", null, { name: task.name }) }, foreign(task.name)),
        ],
        [
          "Worker",
          task.worker_id &&
            h(
              "a",
              { href: link("tasks", null, { worker: task.worker_id }) },
              foreign(task.worker_id),
            ),
        ],
        ["Tries", exactly(task.attempts)],
        ["Number", exactly(task.number)],
        ["State", task.state],
        ["Callback", task.callback && String(task.callback)],
      ]),
    ),
    task.is_cut &&
      h("p", { class: "muted" }, "What is large about this task is not shown here."),
  ];
}

function timeline(task) {
  const created = seconds(task.created_at);
  const started = seconds(task.started_at);
  const ended =
    seconds(task.completed_at) ??
    (OPEN.includes(task.status) ? null : seconds(task.changed_at));
  const earlier = task.errors ?? [];
  const steps = [["queued", "Submitted", created, null]];
  earlier.forEach((error, index) =>
    steps.push(["retrying", `Try ${index + 1} failed`, null, error]),
  );
  for (const loss of task.losses ?? [])
    steps.push(["failure", "Its worker was lost", null, loss]);
  if (started !== null)
    steps.push([
      "started",
      task.attempts > 1 ? `Started, try ${task.attempts}` : "Started",
      started,
      task.worker_id,
    ]);
  if (task.state === "retrying")
    steps.push(["retrying", "Waits for the next try", seconds(task.changed_at), null]);
  if (task.status === "pending" && started === null && task.state !== "retrying")
    steps.push([
      "pending",
      task.state === "leased" ? "Sent to a worker" : "Waits in the queue",
      null,
      null,
    ]);
  if (ended !== null)
    steps.push([task.status, ENDINGS[task.status] ?? task.status, ended, null]);
  return h(
    "ol",
    { class: "timeline" },
    steps.map(([tone, label, at, note]) =>
      h(
        "li",
        { class: `step-${tone}` },
        h("span", { class: "step-name" }, label),
        at !== null &&
          h(
            "time",
            { datetime: new Date(at * 1000).toISOString(), title: moment(at) },
            precisely(at),
          ),
        note && h("p", { class: "muted" }, foreign(note)),
      ),
    ),
  );
}

const ENDINGS = {
  success: "Succeeded",
  failure: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
};

// How long it waited, and how long it ran, of the last attempt.
function phases(task) {
  const created = seconds(task.created_at);
  const started = seconds(task.started_at);
  if (started === null || task.state === "retrying") return null;
  const ended = OPEN.includes(task.status)
    ? null
    : (seconds(task.completed_at) ?? seconds(task.changed_at));
  const run = h(
    "dd",
    ended === null ? { "data-since": started } : {},
    duration((ended ?? now()) - started),
  );
  return h(
    "dl",
    { class: "phases" },
    h("div", {}, h("dt", {}, "Waited"), h("dd", {}, duration(started - created))),
    h("div", {}, h("dt", {}, ended === null ? "Running for" : "Ran"), run),
  );
}

function code(name, text, none = "", shape = pretty) {
  if (text === null || text === undefined || text === "")
    return none ? h("section", {}, h("h3", {}, name), h("p", { class: "muted" }, none)) : null;
  return h(
    "section",
    {},
    h("h3", {}, name, copyButton(text, name.toLowerCase())),
    h("pre", { class: "code", tabindex: "0", "aria-label": name }, foreign(shape(text))),
  );
}

function listed(name, texts) {
  if (!texts?.length) return null;
  return h(
    "section",
    {},
    h("h3", {}, name),
    h(
      "ol",
      { class: "errors" },
      texts.map((text) => h("li", {}, h("pre", { class: "code" }, foreign(String(text))))),
    ),
  );
}
