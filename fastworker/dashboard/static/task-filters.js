// Which tasks are wanted: read from the address, written back to it, turned into
// the server's question, and asked of rows that arrive live.

import { now } from "./clock.js";
import { seconds } from "./format.js";
import { PRIORITIES, STATUSES } from "./parts.js";

/** Relative times, as the address has them, and in seconds. */
export const LASTS = { "5m": 300, "1h": 3_600, "24h": 86_400, "7d": 604_800 };

export class TaskFilters {
  constructor(query, { isPoison = false } = {}) {
    const among = (key, known) => known.filter((each) => query.getAll(key).includes(each));
    this.status = among("status", STATUSES);
    this.priority = among("priority", PRIORITIES);
    this.text = query.get("text") ?? "";
    this.name = query.get("name") ?? "";
    this.worker = query.get("worker") ?? "";
    this.last = query.get("last") in LASTS ? query.get("last") : "";
    this.since = query.get("since") ?? "";
    this.until = query.get("until") ?? "";
    const before = Number(query.get("before"));
    this.before = Number.isSafeInteger(before) && before > 0 ? before : null;
    this.isPoison = isPoison;
  }

  /** For the address. Another choice starts at the newest again. */
  with(changes) {
    const all = { ...this, before: null, ...changes };
    const query = new URLSearchParams();
    for (const key of ["status", "priority"])
      for (const value of all[key]) query.append(key, value);
    for (const key of ["text", "name", "worker", "last", "since", "until", "before"]) {
      if (all[key]) query.set(key, all[key]);
    }
    return query;
  }

  /** For the address, as it is. */
  query() {
    return this.with({ before: this.before });
  }

  /** For the server. */
  question(limit) {
    const query = new URLSearchParams();
    for (const key of ["status", "priority"])
      for (const value of this[key]) query.append(key, value);
    for (const key of ["text", "name", "worker", "before"])
      if (this[key]) query.set(key, this[key]);
    const [since, until] = this.#times();
    if (since !== null) query.set("since", since.toFixed(3));
    if (until !== null) query.set("until", until.toFixed(3));
    if (this.isPoison) query.set("poison", "true");
    query.set("limit", limit);
    return query;
  }

  /** Whether anything is filtered out. */
  get isActive() {
    return this.with({}).size > 0;
  }

  /** Whether a row that arrived belongs here. */
  matches(row) {
    const [since, until] = this.#times();
    const created = seconds(row.created_at);
    return (
      (!this.status.length || this.status.includes(row.status)) &&
      (!this.priority.length || this.priority.includes(row.priority)) &&
      (!this.name || row.name === this.name) &&
      (!this.worker || row.worker_id === this.worker) &&
      (!this.text || hasText(row, this.text.toLowerCase())) &&
      (since === null || created >= since) &&
      (until === null || created <= until)
    );
  }

  #times() {
    if (this.last) return [now() - LASTS[this.last], null];
    return [seconds(this.since), seconds(this.until)];
  }
}

function hasText(row, text) {
  return [row.task_id, row.name].some((each) => each.toLowerCase().includes(text));
}
