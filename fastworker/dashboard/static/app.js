// Starts the page: signs in if the address brings a token, connects, and shows
// the view that the address names.

import { signIn, signOut, whenSignedOut } from "./api.js";
import { cluster, on } from "./cluster.js";
import { startConnection } from "./connection.js";
import { showHelp } from "./dialogs.js";
import { h, say, show } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { announce, emptyPanel } from "./parts.js";
import { go, link, route } from "./router.js";
import { currentTheme, nextTheme } from "./theme.js";
import { toast } from "./toasts.js";
import * as callbacks from "./views/callbacks.js";
import * as functions from "./views/functions.js";
import * as overview from "./views/overview.js";
import * as tasks from "./views/tasks.js";
import * as workers from "./views/workers.js";

const VIEWS = { overview, tasks, workers, functions, callbacks, poison: tasks };
const PAGES = [
  ["overview", "Overview"],
  ["tasks", "Tasks"],
  ["workers", "Workers"],
  ["functions", "Functions"],
  ["callbacks", "Callbacks"],
  ["poison", "Poison"],
];
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" };

const outlet = document.getElementById("view");
const heading = document.getElementById("page-title");
let shown = null;

function showRoute(wanted) {
  if (tokenOfAddress()) {
    takeToken();
    return;
  }
  if (shown?.page === wanted.page) {
    shown.view?.update(wanted);
    return;
  }
  shown?.view?.close();
  const isFirst = shown === null;
  shown = { page: wanted.page, view: null };
  const module = VIEWS[wanted.page];
  const name = module
    ? typeof module.title === "function"
      ? module.title(wanted)
      : module.title
    : "Not found";
  say(heading, name);
  document.title = `${name} · FastWorker`;
  for (const anchor of document.querySelectorAll("#pages a")) {
    if (anchor.dataset.page === wanted.page) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  outlet.replaceChildren();
  outlet.className = `view-${module ? wanted.page : "none"}`;
  if (module) shown.view = module.open(outlet, wanted);
  else
    show(
      outlet,
      emptyPanel(
        "search",
        "There is no such page",
        "The address may be cut short.",
        h("a", { class: "button", href: link("overview") }, "Overview"),
      ),
    );
  if (!isFirst) {
    scrollTo({ top: 0 });
    if (!outlet.contains(document.activeElement))
      document.getElementById("main").focus({ preventScroll: true });
    announce(name);
  }
}

function makePages() {
  const numbers = {};
  show(
    document.getElementById("pages"),
    PAGES.map(([page, label]) => {
      numbers[page] = h("span", { class: "page-number" });
      return h(
        "li",
        {},
        h(
          "a",
          { href: link(page), "data-page": page },
          icon(page),
          h("span", {}, label),
          numbers[page],
        ),
      );
    }),
  );
  on("change", () => {
    const { queued, running, workers: joined, functions: known } = cluster.overview;
    const waiting = Object.values(queued).reduce((sum, value) => sum + value, 0);
    say(numbers.tasks, waiting + running ? count(waiting + running) : "");
    say(numbers.workers, count(joined));
    say(numbers.functions, count(known));
  });
}

function makeButtons() {
  const theme = h("button", {
    type: "button",
    class: "icon-button",
    id: "theme",
    click: () => name(nextTheme()),
  });
  const name = (chosen) => {
    show(theme, icon(THEME_ICONS[chosen]));
    theme.title = `Colours: ${chosen}`;
    theme.setAttribute("aria-label", `Colours: ${chosen}. Change them`);
  };
  name(currentTheme());
  const help = h(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": "Keyboard help",
      title: "Keyboard (?)",
      click: showHelp,
    },
    icon("help"),
  );
  const leave = async () => {
    try {
      await signOut();
      location.reload();
    } catch (error) {
      toast("Signing out failed", { kind: "error", detail: error.message });
    }
  };
  const out = h(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": "Sign out",
      title: "Sign out",
      click: leave,
    },
    icon("out"),
  );
  show(document.getElementById("side-buttons"), theme, help, out);
}

function tokenOfAddress() {
  return location.hash.startsWith("#token=")
    ? new URLSearchParams(location.hash.slice(1)).get("token")
    : null;
}

// The link of the terminal, opened while a cookie is there: that may be an old one.
async function takeToken() {
  const token = tokenOfAddress();
  if (!token) return;
  go(link("overview"), { replace: true });
  try {
    await signIn(token);
  } catch (error) {
    toast("The link's token was not taken", { kind: "error", detail: error.message });
  }
}

document.querySelector(".skip-link").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
makePages();
makeButtons();
startConnection();
await takeToken();
// The server shows the sign-in page in this one's place.
whenSignedOut(() => location.reload());
startLive();
startKeys(() => shown?.view);
route(showRoute);
