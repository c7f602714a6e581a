// Keeps one WebSocket to the control plane, and tells `cluster` what it says.
// It connects again by itself, later and later, and notices a line that is dead.

import { overview } from "./api.js";
import { cluster } from "./cluster.js";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;
// Something comes every five seconds; after three times that, nothing will.
const SILENCE = 15_000;

let socket = null;
let delay = FIRST_DELAY;
let retry = null;
let silence = null;
let watching = 0;

/** Connect, and stay connected. */
export function startLive() {
  connect();
  addEventListener("online", connectNow);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && cluster.connection.state === "waiting") connectNow();
  });
}

/** Do not wait for the next try. */
export function connectNow() {
  if (socket) return;
  clearTimeout(retry);
  connect();
}

/** Ask for the rows of tasks as they change, until the answer is called. */
export function watchTasks() {
  watching += 1;
  if (watching === 1) sendWatch();
  let isOver = false;
  return () => {
    if (isOver) return;
    isOver = true;
    watching -= 1;
    if (watching === 0) sendWatch();
  };
}

function sendWatch() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: "watch", tasks: watching > 0 }));
}

function connect() {
  const url = new URL("api/live", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  cluster.setConnection("connecting");
  const mine = (socket = new WebSocket(url));
  let hasSpoken = false;
  mine.addEventListener("open", () => {
    sendWatch();
    listenForSilence();
  });
  mine.addEventListener("message", ({ data }) => {
    if (mine !== socket) return;
    hasSpoken = true;
    delay = FIRST_DELAY;
    listenForSilence();
    take(JSON.parse(data));
  });
  mine.addEventListener("close", () => {
    if (mine !== socket) return;
    socket = null;
    clearTimeout(silence);
    if (!hasSpoken) findOutWhy();
    wait();
  });
}

function take(message) {
  if (message.type === "lost") {
    cluster.setConnection("silent", message.message);
    return;
  }
  // A server may go on to beat while the control plane behind it is silent.
  if (message.type === "beat") return;
  if (cluster.connection.state !== "live") cluster.setConnection("live");
  if (message.type === "snapshot") cluster.takeSnapshot(message);
  else if (message.type === "update") cluster.takeUpdate(message);
}

function listenForSilence() {
  clearTimeout(silence);
  silence = setTimeout(() => {
    const dead = socket;
    socket = null;
    dead?.close();
    wait();
  }, SILENCE);
}

function wait() {
  // Not all browsers at the same moment.
  const jittered = delay * (0.75 + Math.random() / 2);
  delay = Math.min(delay * 2, LONGEST_DELAY);
  cluster.setConnection("waiting", "", Date.now() + jittered);
  retry = setTimeout(connect, jittered);
}

// A WebSocket that was refused does not say why; a question over HTTP does.
async function findOutWhy() {
  try {
    const now = await overview();
    if (cluster.connection.state !== "live") cluster.takeUpdate({ overview: now });
  } catch {
    // The banner says it; and if the session has ended, the sign-in page comes.
  }
}
