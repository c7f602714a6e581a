// The list of tasks, a page at a time however many there are, kept up to date by
// the live feed; the poison tasks are the same list with one filter more.

import { actOnTasks } from "../actions.js";
import * as api from "../api.js";
import { everySecond } from "../clock.js";
import { on } from "../cluster.js";
import { h, say, show } from "../dom.js";
import { exactly, many } from "../format.js";
import { icon } from "../icons.js";
import { watchTasks } from "../live.js";
import { announce, emptyPanel, errorPanel, keepAges, skeleton } from "../parts.js";
import { go, link } from "../router.js";
import { TaskFilters } from "../task-filters.js";
import { makeTaskBar } from "./task-bar.js";
import { makeTaskDetail } from "./task-detail.js";
import { makeTaskTable } from "./task-table.js";

export const title = (route) => (route.page === "poison" ? "Poison" : "Tasks");
const LIMIT = 50;
// Rows arrive in bursts; eyes do not.
const APPLY = 400;
const REFILL = 3_000;

export function open(outlet, route) {
  const page = route.page;
  let filters = null;
  let detail = null;
  let rows = null;
  let next = null;
  let trail = [];
  let control = new AbortController();
  let isFollowing = true;
  const arrived = new Map();

  const address = (query, item = null) => link(page, item, query);
  const bar = makeTaskBar({
    change: (changes) => go(address(filters.with(changes)), { replace: true }),
    openTask: (id) => go(address(filters.query(), id)),
  });
  const table = makeTaskTable({
    address: (id) => address(filters.query(), id),
    choose: () => drawChosen(),
  });
  const follow = h("button", {
    type: "button",
    class: "button follow",
    click: () => setFollowing(!isFollowing),
  });
  const fresh = h("button", {
    type: "button",
    class: "button primary small fresh",
    hidden: true,
    click: () => apply(true),
  });
  const shownCount = h("span", {});
  const numbers = h("span", { class: "list-numbers" });
  const status = h("p", { class: "muted list-status" }, shownCount, numbers);
  const bulk = h("div", {
    class: "bulk",
    role: "group",
    "aria-label": "Chosen tasks",
    hidden: true,
  });
  const place = h("div", { class: "task-place" });
  const newer = h(
    "button",
    { type: "button", class: "button", title: "Newer ([)", click: () => turn("newer") },
    icon("left"),
    "Newer",
  );
  const older = h(
    "button",
    { type: "button", class: "button", title: "Older (])", click: () => turn("older") },
    "Older",
    icon("right"),
  );
  const pager = h("nav", { class: "pager", "aria-label": "Pages of tasks" }, newer, older);
  const list = h(
    "div",
    { class: "task-list" },
    page === "poison" &&
      h(
        "p",
        { class: "lead" },
        "Tasks that ended because the workers that ran them died, again and again. Look at the arguments before you retry one: it may take the next worker down.",
      ),
    bar.element,
    h("div", { class: "list-head" }, status, fresh, follow),
    bulk,
    place,
    pager,
  );
  show(outlet, list);

  // The list itself

  async function load({ isQuiet = false } = {}) {
    control.abort();
    const mine = (control = new AbortController());
    if (!rows) show(place, skeleton(10));
    else if (!isQuiet) place.setAttribute("aria-busy", "true");
    try {
      const reply = await api.tasks(filters.question(LIMIT), mine.signal);
      rows = reply.tasks;
      next = reply.next;
      arrived.clear();
      draw();
      // Not what comes live: that would be read out without an end.
      if (!isQuiet)
        announce(rows.length ? `${many(rows.length, "task")} on this page` : "No tasks");
    } catch (error) {
      if (mine.signal.aborted) return;
      // What is there is better than nothing while the connection is away.
      if (rows && (isQuiet || error.status === 0)) say(shownCount, error.message);
      else {
        rows = null;
        pager.hidden = true;
        show(place, errorPanel(error, load));
      }
    } finally {
      if (mine === control) place.removeAttribute("aria-busy");
    }
  }

  function draw() {
    table.show(rows, detail?.taskId ?? null);
    if (rows.length) {
      if (!table.element.isConnected) show(place, table.element);
    } else show(place, nothing());
    const from = rows.length
      ? ` · numbers ${exactly(rows.at(-1).number)} to ${exactly(rows[0].number)}`
      : "";
    say(shownCount, `${many(rows.length, "task")} on this page`);
    say(numbers, from);
    fresh.hidden = arrived.size === 0;
    say(fresh, `Show ${many(arrived.size, "change")}`);
    pager.hidden = !filters.before && next === null;
    newer.disabled = !filters.before;
    older.disabled = next === null;
  }

  function nothing() {
    if (filters.before) return emptyPanel("tasks", "No older tasks", "This was the last page.");
    if (filters.isActive)
      return emptyPanel("search", "No task matches", "Choose fewer filters, or a longer time.");
    if (page === "poison")
      return emptyPanel("check", "No poison", "No task has taken its workers down.");
    return emptyPanel(
      "tasks",
      "No tasks yet",
      "They appear here as soon as one is submitted, for example with:",
      h("pre", { class: "code" }, "fastworker submit my_task"),
    );
  }

  function turn(direction) {
    if (direction === "older" && next !== null) {
      trail.push(filters.before);
      go(address(filters.with({ before: next })));
    } else if (direction === "newer" && filters.before) {
      go(address(filters.with({ before: trail.pop() ?? null })));
    } else return;
    scrollTo({ top: 0 });
  }

  // What arrives live

  function setFollowing(wanted) {
    isFollowing = wanted;
    show(follow, icon(isFollowing ? "pause" : "play"), isFollowing ? "Pause" : "Follow");
    follow.setAttribute(
      "aria-label",
      isFollowing ? "Pause live updates" : "Follow live updates",
    );
    if (isFollowing) apply(true);
  }

  let applying = null;
  function take({ detail: { rows: changed, dropped } }) {
    if (!rows) return;
    if (page === "poison") {
      if (changed.some(({ status }) => status === "failure")) refillSoon();
      return;
    }
    const there = new Set(rows.map(({ task_id }) => task_id));
    const bottom = next === null ? 0 : (rows.at(-1)?.number ?? 0);
    for (const row of changed) {
      const belongs = !filters.before && row.number > bottom && filters.matches(row);
      if (there.has(row.task_id) || belongs) arrived.set(row.task_id, row);
    }
    if (dropped && !filters.before) refillSoon();
    if (arrived.size)
      applying ??= setTimeout(() => {
        applying = null;
        apply(false);
      }, APPLY);
  }

  // Rows on the page always change where they are; others come only while the
  // operator follows, and has nothing chosen that would move away.
  function apply(isAsked) {
    if (!rows) return;
    const mayMove = isAsked || (isFollowing && !table.chosen.size && !filters.before);
    const merged = new Map(rows.map((row) => [row.task_id, row]));
    for (const [id, row] of arrived) {
      if (!merged.has(id) && !mayMove) continue;
      arrived.delete(id);
      if (mayMove && !filters.matches(row)) merged.delete(id);
      else merged.set(id, row);
    }
    rows = [...merged.values()].sort((a, b) => b.number - a.number);
    if (rows.length > LIMIT) {
      rows.length = LIMIT;
      next = rows.at(-1).number;
    }
    if (rows.length < LIMIT / 2 && next !== null) refillSoon();
    draw();
  }

  let refilling = null;
  function refillSoon() {
    refilling ??= setTimeout(() => {
      refilling = null;
      if (isFollowing && !table.chosen.size) load({ isQuiet: true });
    }, REFILL);
  }

  // What is chosen, and what is open

  function drawChosen() {
    const chosen = [...table.chosen.values()];
    bulk.hidden = chosen.length === 0;
    if (bulk.hidden) return;
    const act = async (action) => {
      if (await actOnTasks(action, chosen)) {
        table.unpick();
        load({ isQuiet: true });
      }
    };
    const button = (action, label, tone) =>
      h(
        "button",
        { type: "button", class: `button small ${tone}`, click: () => act(action) },
        icon(action),
        label,
      );
    show(
      bulk,
      h("strong", {}, `${chosen.length} chosen`),
      button("retry", "Retry", ""),
      button("cancel", "Cancel", "danger"),
      button("purge", "Purge", "danger"),
      h(
        "button",
        { type: "button", class: "button small quiet", click: table.unpick },
        "Choose none",
      ),
    );
  }

  function showDetail(taskId) {
    if ((detail?.taskId ?? null) === taskId) return;
    const before = detail?.taskId;
    detail?.close();
    detail?.element.remove();
    detail = null;
    outlet.classList.toggle("has-drawer", taskId !== null);
    list.inert = taskId !== null && matchMedia("(max-width: 900px)").matches;
    if (taskId !== null) {
      detail = makeTaskDetail(taskId, {
        close: () => go(address(filters.query())),
        changed: () => load({ isQuiet: true }),
      });
      outlet.append(detail.element);
      detail.focus();
    } else if (before) table.focus(before);
    if (rows) table.show(rows, taskId);
  }

  function update({ item, query }) {
    const changed = new TaskFilters(query, { isPoison: page === "poison" });
    const isSame = filters && changed.query().toString() === filters.query().toString();
    if (!changed.before) trail = [];
    filters = changed;
    bar.show(filters);
    if (!isSame) {
      table.chosen.clear();
      load();
    }
    showDetail(item);
    if (query.has("focus")) {
      go(address(filters.query(), item), { replace: true });
      bar.search.focus();
    }
  }

  setFollowing(true);
  update(route);
  const stops = [
    watchTasks(),
    on("tasks", take),
    keepAges(outlet),
    everySecond(() => table.tick()),
    on("snapshot", () => load({ isQuiet: true })),
  ];
  return {
    update,
    key(key) {
      if (key === "Escape" && detail) go(address(filters.query()));
      else if (key === "Escape" && table.chosen.size) table.unpick();
      else if (key === "x") return table.toggleFocused();
      else if (key === "[" || key === "]") turn(key === "[" ? "newer" : "older");
      else if (key === "r") load();
      else return false;
      return true;
    },
    close() {
      for (const stop of stops) stop();
      control.abort();
      for (const timer of [applying, refilling]) clearTimeout(timer);
      detail?.close();
      bar.close();
      outlet.classList.remove("has-drawer");
    },
  };
}
