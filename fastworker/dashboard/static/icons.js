// The page's few icons, drawn as strokes in a box of 24 by 24.

import { s } from "./dom.js";

const SHAPES = {
  overview: ["M4 13h5v7H4z", "M4 4h5v5H4z", "M13 4h7v9h-7z", "M13 17h7v3h-7z"],
  tasks: ["M9 6h11", "M9 12h11", "M9 18h11", "M4 6h.5", "M4 12h.5", "M4 18h.5"],
  workers: ["M4 5h16v5H4z", "M4 14h16v5H4z", "M7.5 7.5h.5", "M7.5 16.5h.5"],
  functions: [
    "M8 4c-2 0-3 1-3 3v2c0 2-1 3-2 3 1 0 2 1 2 3v2c0 2 1 3 3 3",
    "M16 4c2 0 3 1 3 3v2c0 2 1 3 2 3-1 0-2 1-2 3v2c0 2-1 3-3 3",
  ],
  callbacks: ["M21 5 3 12l6 2.5L12 21z", "M9 14.5 21 5"],
  poison: ["M12 3 2.5 20h19z", "M12 10v4", "M12 17h.5"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "m16 16 4.5 4.5"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  sun: [
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
    "M12 2v2",
    "M12 20v2",
    "M2 12h2",
    "M20 12h2",
    "m5 5 1.4 1.4",
    "m17.6 17.6 1.4 1.4",
    "m5 19 1.4-1.4",
    "m17.6 6.4 1.4-1.4",
  ],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  system: ["M3 5h18v11H3z", "M8 20h8", "M12 16v4"],
  help: [
    "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.1-1.5 2.4",
    "M12 17.5h.5",
    "M12 2.5a9.5 9.5 0 1 0 0 19 9.5 9.5 0 0 0 0-19z",
  ],
  out: ["M14 4h5v16h-5", "M10 8l-4 4 4 4", "M6 12h9"],
  retry: ["M20 11a8 8 0 1 0-2.3 6.3", "M20 4v7h-7"],
  cancel: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "m5.8 5.8 12.4 12.4"],
  purge: ["M4 7h16", "M9 7V4h6v3", "M6 7l1 13h10l1-13"],
  drain: ["M12 3v12", "m7 10 5 5 5-5", "M4 20h16"],
  down: ["m6 9 6 6 6-6"],
  left: ["m14 6-6 6 6 6"],
  right: ["m10 6 6 6-6 6"],
  check: ["m4 12 5 5L20 6"],
  pause: ["M8 5v14", "M16 5v14"],
  play: ["M7 4v16l13-8z"],
  plug: ["M9 3v5", "M15 3v5", "M6 8h12v3a6 6 0 0 1-12 0z", "M12 17v4"],
};

/** An icon beside a text; it says nothing to screen readers. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    SHAPES[name].map((d) => s("path", { d })),
  );
}
