// Says whether what is shown is of now: a dot in the corner, and a banner while
// the connection is lost, with the seconds until the next try.

import { cluster, on } from "./cluster.js";
import { h, say, show } from "./dom.js";
import { clock } from "./format.js";
import { icon } from "./icons.js";
import { connectNow } from "./live.js";

const WORDS = {
  live: "Live",
  connecting: "Connecting",
  waiting: "Not connected",
  silent: "No answer",
};

export function startConnection() {
  const banner = document.getElementById("banner");
  const line = document.getElementById("line-state");
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const word = h("span", { role: "status" });
  const version = h("span", { class: "muted version" });
  show(line, dot, word, version);

  const message = h("p", { role: "alert" });
  // Read out every second it would be in the way.
  const countdown = h("p", { class: "countdown", "aria-hidden": "true" });
  const retry = h(
    "button",
    { type: "button", class: "button small", click: connectNow },
    icon("retry"),
    "Try now",
  );
  show(banner, icon("plug"), message, countdown, retry);

  let isLost = false;
  let timer = null;

  function draw() {
    const { state, message: told, retryAt } = cluster.connection;
    if (state === "live") isLost = false;
    if (state === "waiting" || state === "silent") isLost = true;
    document.body.classList.toggle("is-stale", isLost);
    dot.className = `dot dot-${state}`;
    say(word, WORDS[state]);
    banner.hidden = !isLost;
    retry.hidden = state !== "waiting";
    if (isLost) {
      const since = cluster.overview
        ? ` What you see is from ${clock(cluster.overview.now)}.`
        : "";
      say(
        message,
        state === "silent"
          ? `The control plane does not answer: ${told}`
          : `The connection to the control plane is lost.${since}`,
      );
      const left = retryAt === null ? 0 : Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      say(
        countdown,
        state === "waiting"
          ? `Trying again in ${left} s`
          : state === "connecting"
            ? "Connecting …"
            : "",
      );
    } else say(message, "");
    clearInterval(timer);
    timer = isLost ? setInterval(draw, 500) : null;
  }

  on("connection", draw);
  on("change", () => {
    const { version: number, worker_id } = cluster.overview;
    say(version, `${worker_id.slice(0, 40)} ${number}`);
    version.title = worker_id;
  });
  draw();
}
