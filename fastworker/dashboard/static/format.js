// Numbers, durations and moments as an operator reads them at a glance.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const exactTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dateTime = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "medium",
  hourCycle: "h23",
});

export const NONE = "–";

/** 1,284 and 1.3M: short from a hundred thousand on. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) < 100_000 ? plain.format(value) : compact.format(value);
}

/** All digits. */
export function exactly(value) {
  return value === null || value === undefined ? NONE : plain.format(value);
}

/** So many per second: 0.3, 7.2, 81, 12.4K. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value !== 0 && value < 0.05) return "<0.1";
  return value < 10 ? value.toFixed(value === 0 ? 0 : 1) : count(Math.round(value));
}

/** Seconds, with two or three digits and a unit. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NONE;
  if (seconds <= 0) return "0 s";
  if (seconds < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${+(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 10) return `${+seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  return span(seconds);
}

/** Whole seconds and longer: 41 s, 3 min 5 s, 2 h 4 min, 12 d. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(whole / unit));
  if (whole < 3600) return joined(minutes, "min", whole % 60, "s");
  if (whole < 86_400) return joined(hours, "h", minutes % 60, "min");
  return days < 10 ? joined(days, "d", hours % 24, "h") : `${days} d`;
}

function joined(large, unit, small, smaller) {
  return small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
}

/** "just now", "12 s ago", "3 h ago"; one unit is enough here. */
export function ago(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** The time of day of seconds since 1970. */
export function clock(seconds) {
  return clockTime.format(seconds * 1000);
}

/** Date and time of seconds since 1970. */
export function moment(seconds) {
  return seconds === null || seconds === undefined ? NONE : dateTime.format(seconds * 1000);
}

/** To the millisecond, and with the day unless it is today. */
export function precisely(at) {
  const time = exactTime.format(at * 1000);
  const day = (milliseconds) => new Date(milliseconds).toDateString();
  return day(at * 1000) === day(Date.now()) ? time : `${shortDay.format(at * 1000)}, ${time}`;
}

/** Seconds since 1970 of an ISO time; null of none. */
export function seconds(iso) {
  if (!iso) return null;
  const milliseconds = Date.parse(iso);
  return Number.isNaN(milliseconds) ? null : milliseconds / 1000;
}

/** 1.7 MB. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1000 && step < units.length - 1) [value, step] = [value / 1000, step + 1];
  return `${step && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** Arguments as they would stand in a call; any other text as it is. */
export function call(text) {
  let parsed;
  try {
    parsed = parse(text);
  } catch {
    return text;
  }
  const [positional, named] = Array.isArray(parsed) ? parsed : [];
  if (!Array.isArray(positional) || typeof named !== "object" || named === null)
    return pretty(text);
  const lines = [
    ...positional.map((value) => indented(value)),
    ...Object.entries(named).map(([name, value]) => `${name}=${indented(value)}`),
  ];
  return lines.length ? `(\n${lines.map((line) => `  ${line},\n`).join("")})` : "()";
}

function indented(value) {
  return JSON.stringify(value, null, 2).replaceAll("\n", "\n  ");
}

/** "1 task", "2 tasks". */
export function many(number, noun) {
  return `${exactly(number)} ${noun}${number === 1 ? "" : "s"}`;
}

// Every number keeps the digits it has: as one of JavaScript's, 2**63 would be another.
function parse(text) {
  if (!JSON.rawJSON && /\d{16}/.test(text))
    throw new SyntaxError("its numbers are too long here");
  return JSON.parse(text, (_, value, { source } = {}) => {
    const isChanged =
      typeof value === "number" && source !== undefined && String(value) !== source;
    return isChanged ? JSON.rawJSON(source) : value;
  });
}

/** JSON with line breaks; any other text as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(parse(text), null, 2);
  } catch {
    return text;
  }
}
