// Asks the control plane over HTTP. URLs are relative, since the page may be
// mounted below any path; errors carry the server's own words.

/** What the server answered instead; `status` is 0 if it did not answer at all. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

const PATIENCE = 20_000;
let signedOut = () => {};

/** Call it when an answer says that the session has ended. */
export function whenSignedOut(call) {
  signedOut = call;
}

async function ask(method, path, { body, query, signal } = {}) {
  const search = query?.toString() ? `?${query}` : "";
  const patience = AbortSignal.timeout(PATIENCE);
  let response;
  try {
    response = await fetch(`api/${path}${search}`, {
      method,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        ...(method === "GET" ? {} : { "X-FastWorker": "1" }),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "The control plane cannot be reached.");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status === 401 && path !== "session") signedOut();
  const told = await response.json().catch(() => null);
  throw new ApiError(
    response.status,
    told?.error?.code ?? "error",
    told?.error?.message ?? `The control plane answered ${response.status}.`,
  );
}

const part = encodeURIComponent;

export const overview = (signal) => ask("GET", "overview", { signal });
export const workers = (signal) => ask("GET", "workers", { signal });
export const tasks = (query, signal) => ask("GET", "tasks", { query, signal });
export const task = (id, signal) => ask("GET", `tasks/${part(id)}`, { signal });
export const functions = (signal) => ask("GET", "functions", { signal });
export const callbacks = (query, signal) => ask("GET", "callbacks", { query, signal });

export const actOnTask = (id, action) => ask("POST", `tasks/${part(id)}/${action}`);
export const actOnTasks = (action, ids) =>
  ask("POST", "tasks/actions", { body: { action, ids } });
export const drain = (workerId) => ask("POST", `workers/${part(workerId)}/drain`);

export const signIn = (token) => ask("POST", "session", { body: { token } });
export const signOut = () => ask("DELETE", "session");
