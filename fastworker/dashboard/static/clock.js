// The control plane's time: a browser's clock may be minutes off, and then
// every age on the page would be wrong.

let ahead = null;
let told = 0;

/** Learn what time it is there: seconds since 1970. */
export function setClock(seconds) {
  if (seconds === told) return;
  told = seconds;
  const learned = seconds - Date.now() / 1000;
  // The quickest message tells it best; but a clock may also be set.
  if (ahead === null || learned > ahead || learned < ahead - 5) ahead = learned;
}

/** Seconds since 1970, as the control plane has it. */
export function now() {
  return Date.now() / 1000 + (ahead ?? 0);
}

const listeners = new Set();

/** Call it every second while the page is seen; the answer ends that. */
export function everySecond(call) {
  listeners.add(call);
  return () => listeners.delete(call);
}

setInterval(() => {
  if (document.hidden) return;
  for (const call of listeners) call();
}, 1000);
