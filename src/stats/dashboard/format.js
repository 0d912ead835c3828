// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 2 });
const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const NONE = "–";

/** @typedef {number | null | undefined} Value */

/** `12,345`. @param {Value} n */
export function count(n) {
  return n === null || n === undefined ? NONE : whole.format(n);
}

/** `12,345 /s`, `0.5 /s`. @param {Value} n */
export function rate(n) {
  if (n === null || n === undefined) return NONE;
  return `${n > 0 && n < 10 ? small.format(n) : whole.format(n)} /s`;
}

/** @param {number} n @param {readonly string[]} units */
function scaled(n, units) {
  let value = n;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 || Math.abs(value) >= 99.5 ? 0 : 1;
  return { text: value.toFixed(digits), unit: units[unit] };
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];

/** `12.3 MB`; a kB is 1,000 bytes. @param {Value} n */
export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const { text, unit } = scaled(n, BYTES);
  return `${text} ${unit}`;
}

/** `12.3 MB/s`. @param {Value} n */
export function byteRate(n) {
  return n === null || n === undefined ? NONE : `${bytes(n)}/s`;
}

/** `0.25 ms`, `12 ms`, `1.5 s`. @param {Value} n */
export function ms(n) {
  if (n === null || n === undefined) return NONE;
  if (n >= 1000) return `${(n / 1000).toFixed(1)} s`;
  return `${n === 0 ? 0 : n < 1 ? n.toFixed(2) : n < 10 ? n.toFixed(1) : n.toFixed(0)} ms`;
}

/** `12 %`. @param {Value} n */
export function percent(n) {
  if (n === null || n === undefined) return NONE;
  return `${n > 0 && n < 10 ? n.toFixed(1) : n.toFixed(0)} %`;
}

/** For the few characters beside an axis: `1.2k`, `35M`. @param {number} n */
export function short(n) {
  const { text, unit } = scaled(n, ["", "k", "M", "G", "T"]);
  if (unit === "") return Number.isInteger(n) ? text : String(Number(n.toPrecision(2)));
  return `${text.replace(/\.0$/, "")}${unit}`;
}

/** `3 d 4 h`, `5 min 6 s`. @param {number} s */
export function duration(s) {
  const days = Math.floor(s / 86400);
  const hours = Math.floor(s / 3600) % 24;
  const minutes = Math.floor(s / 60) % 60;
  const seconds = Math.floor(s) % 60;
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${seconds} s`;
  return `${seconds} s`;
}

/** `12:05:09`, here. @param {number} ms since the epoch */
export function timeOf(ms) {
  return clock.format(ms);
}

/** `12:05`, here. @param {number} ms since the epoch */
export function minuteOf(ms) {
  return clock.format(ms).slice(0, 5);
}

/** `12:05:09`, with the day before it where it is not today. @param {number} ms since the epoch */
export function momentOf(ms) {
  const today = new Date().toDateString() === new Date(ms).toDateString();
  return today ? timeOf(ms) : `${day.format(ms)} ${timeOf(ms)}`;
}
