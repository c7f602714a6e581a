// Turns the token of the address into a cookie. The token stands in the fragment,
// which browsers send to nobody, and is taken out of the address at once.

import { signIn } from "./api.js";

const state = document.getElementById("state");
const bare = document.getElementById("bare");
const field = document.getElementById("token");

async function enter(token) {
  state.className = "muted";
  state.textContent = "Signing in …";
  bare.hidden = true;
  try {
    await signIn(token);
  } catch (error) {
    state.className = "note note-bad";
    state.textContent = error.message;
    bare.hidden = false;
    field.value = "";
    return;
  }
  location.reload();
}

function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
    enter(token);
  } else {
    bare.hidden = false;
  }
}

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(field.value.trim());
});
// An address that is pasted into this tab changes nothing but the fragment.
addEventListener("hashchange", start);
start();
