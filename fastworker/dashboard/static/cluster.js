// What is known of the cluster now: one object that the live feed writes and
// every view reads. Views hear of changes as events; none asks on its own.

import { setClock, now } from "./clock.js";

const HISTORY = 600;

/**
 * Events: "change" (overview, workers or history), "tasks" (rows that changed:
 * `detail.rows`, `detail.dropped`), "snapshot" (what changed before was perhaps
 * missed), "connection" (see `connection`).
 */
class Cluster extends EventTarget {
  overview = null;
  workers = new Map();
  history = [];
  /** state: "connecting", "live", "silent" (the control plane does not answer) or "waiting". */
  connection = { state: "connecting", message: "", retryAt: null };

  takeSnapshot({ overview, workers, history }) {
    this.#takeOverview(overview);
    this.workers = new Map(workers.map((worker) => [worker.worker_id, received(worker)]));
    this.history = history.slice(-HISTORY);
    this.#tell("change");
    this.#tell("snapshot");
  }

  takeUpdate({ overview, workers = [], gone = [], point, tasks = [], dropped = 0 }) {
    if (overview) this.#takeOverview(overview);
    for (const worker of workers) this.workers.set(worker.worker_id, received(worker));
    for (const workerId of gone) this.workers.delete(workerId);
    if (point && point.at > (this.history.at(-1)?.at ?? 0)) {
      this.history.push(point);
      if (this.history.length > HISTORY) this.history.shift();
    }
    this.#tell("change");
    if (tasks.length || dropped) this.#tell("tasks", { rows: tasks, dropped });
  }

  setConnection(state, message = "", retryAt = null) {
    this.connection = { state, message, retryAt };
    this.#tell("connection");
  }

  #takeOverview(overview) {
    this.overview = overview;
    setClock(overview.now);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function received(worker) {
  return { ...worker, beat: now() - worker.idle };
}

export const cluster = new Cluster();

/** Listen until the answer is called. */
export function on(name, call) {
  cluster.addEventListener(name, call);
  return () => cluster.removeEventListener(name, call);
}
