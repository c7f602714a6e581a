// What an operator can do to tasks and workers. Each asks first, then says what
// came of it; the answer is true if something was done.

import * as api from "./api.js";
import { confirmAction } from "./dialogs.js";
import { many } from "./format.js";
import { toast } from "./toasts.js";

const TASKS = {
  cancel: {
    title: "Cancel",
    text: "One that waits is taken from the queue. One that runs is cancelled where it runs, and ends once it has cleaned up.",
    agree: "Cancel",
    done: "Cancelling",
    isDangerous: true,
  },
  retry: {
    title: "Retry",
    text: "It is queued once more with the same arguments, and with all its attempts. What it did before is done again.",
    agree: "Retry",
    done: "Queued again:",
    isDangerous: false,
  },
  purge: {
    title: "Purge",
    text: "It is forgotten, with its arguments, result and errors. This cannot be undone.",
    agree: "Purge",
    done: "Purged",
    isDangerous: true,
  },
};

const LISTED = 8;
// What a cancel that comes too late is told.
const ENDED = ["success", "failure", "expired"];

/** Cancel, retry or purge one task. */
export async function actOnTask(action, { task_id, name }) {
  const words = TASKS[action];
  const isAgreed = await confirmAction({
    ...words,
    title: `${words.title} this task?`,
    agree: `${words.agree} task`,
    items: [name, task_id],
  });
  if (!isAgreed) return false;
  return attempt(`${words.title} failed`, async () => {
    const { status } = await api.actOnTask(task_id, action);
    if (ENDED.includes(status))
      toast(`${short(name)} had ended before: ${status}`, { detail: task_id });
    else
      toast(`${status === "cancelled" ? "Cancelled" : words.done} ${short(name)}`, {
        detail: task_id,
      });
    return true;
  });
}

/** Cancel, retry or purge several. */
export async function actOnTasks(action, rows) {
  const words = TASKS[action];
  const named = rows.slice(0, LISTED).map(({ name, task_id }) => `${short(name)} · ${task_id}`);
  const items = rows.length > LISTED ? [...named, `and ${rows.length - LISTED} more`] : named;
  const title = `${words.title} ${many(rows.length, "task")}?`;
  if (
    !(await confirmAction({
      ...words,
      title,
      agree: `${words.agree} ${many(rows.length, "task")}`,
      items,
    }))
  )
    return false;
  return attempt(`${words.title} failed`, async () => {
    const { done, untouched } = await api.actOnTasks(
      action,
      rows.map(({ task_id }) => task_id),
    );
    if (done.length) toast(`${words.done} ${many(done.length, "task")}`);
    if (untouched.length) {
      const reasons = new Set(untouched.map(({ reason }) => reason));
      toast(`${many(untouched.length, "task")} left as before`, {
        kind: "error",
        detail: [...reasons].slice(0, 3).join("; "),
      });
    }
    return done.length > 0;
  });
}

/** Let a worker finish what it runs, and give it nothing new. */
export async function drainWorker({ worker_id }) {
  const isAgreed = await confirmAction({
    title: "Drain this worker?",
    text: "It gets no new tasks and ends when it has none left; what still runs after its drain timeout goes back to the queue. One that the control plane started is started again at once, with nothing running.",
    items: [worker_id],
    agree: "Drain worker",
    isDangerous: true,
  });
  if (!isAgreed) return false;
  return attempt("Drain failed", async () => {
    await api.drain(worker_id);
    toast(`Draining ${short(worker_id)}`);
    return true;
  });
}

async function attempt(failure, act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    toast(failure, { kind: "error", detail: error.message });
    return false;
  }
}

function short(text) {
  return text.length <= 80 ? text : `${text.slice(0, 79)}…`;
}
