// Light or dark: as the system has it, until the switch says otherwise.
// Loaded before the page is drawn, so that it does not flash.

const KEY = "fastworker-theme";
export const THEMES = ["system", "light", "dark"];

function stored() {
  try {
    const theme = localStorage.getItem(KEY);
    return THEMES.includes(theme) ? theme : "system";
  } catch {
    return "system"; // no storage is allowed here
  }
}

let theme = stored();
apply();

function apply() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function currentTheme() {
  return theme;
}

/** Choose one, and remember it in this browser. */
export function chooseTheme(chosen) {
  theme = chosen;
  apply();
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // It holds until the page is left.
  }
}

/** The one after it: what the switch does. */
export function nextTheme() {
  chooseTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  return theme;
}
