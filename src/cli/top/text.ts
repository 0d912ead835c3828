// Text for a terminal: names made harmless, cut to their columns, and numbers short.

import { eastAsianWidth } from "get-east-asian-width";

/** Controls, format characters (those that turn the direction of text, too), and what nobody has assigned. */
const HARMFUL = /[\p{C}\p{Zl}\p{Zp}]/gu;
const COMBINING = /^\p{M}$/u;

/** Marks that may stand on one letter; a pile of them would reach into other lines. */
const MAX_MARKS = 2;

/** Without what could steer a terminal, or change the order of what stands beside it. */
export function harmless(text: string): string {
  return text.toWellFormed().replaceAll(HARMFUL, "\u00b7");
}

/** Cells that a character takes. */
function widthOf(character: string): number {
  if (COMBINING.test(character)) return 0;
  return eastAsianWidth(character.codePointAt(0) ?? 0);
}

/** Made harmless, and at most `width` cells, with `…` where something is missing. */
export function cut(text: string, width: number): string {
  return fit(text, width).text;
}

/** As {@linkcode cut}, filled up with spaces to `width` cells. */
export function padded(text: string, width: number): string {
  const { text: part, cells } = fit(text, width);
  return part + " ".repeat(Math.max(0, width - cells));
}

function fit(text: string, width: number): { text: string; cells: number } {
  let part = "";
  let cells = 0;
  // What is left where one cell has to be kept for the ellipsis.
  let short = "";
  let shortCells = 0;
  let marks = 0;
  for (const character of harmless(text)) {
    const own = widthOf(character);
    marks = own === 0 ? marks + 1 : 0;
    if (marks > MAX_MARKS) continue;
    if (cells + own > width) {
      return width < 1 ? { text: "", cells: 0 } : { text: `${short}…`, cells: shortCells + 1 };
    }
    part += character;
    cells += own;
    if (cells < width) {
      short = part;
      shortCells = cells;
    }
  }
  return { text: part, cells };
}

/** `987`, `12.3k`, `4.5M`; at most six characters. */
export function shortCount(value: number): string {
  if (!Number.isFinite(value)) return "-";
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]] as const) {
    if (value < size) continue;
    const scaled = value / (unit === "k" ? 1e3 : size);
    return `${scaled < 100 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
  }
  return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : `${Math.round(value)}`;
}

/** `12 B`, `3.4 KiB`, `120 MiB`. */
export function shortBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "-";
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1023.5) {
      return `${value < 99.95 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    }
    value /= 1024;
  }
  return `${value < 99.95 ? value.toFixed(1) : Math.round(value)} TiB`;
}

/** `12s`, `3m 4s`, `5h 6m`, `7d 8h`. */
export function shortDuration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${Math.floor(s / 60) % 60}m`;
  return `${Math.floor(s / 86_400)}d ${Math.floor(s / 3600) % 24}h`;
}
