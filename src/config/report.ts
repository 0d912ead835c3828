// Collects mistakes and warnings, one line each, and shows values in them without giving secrets away.

import type { Raw } from "./value_types.ts";

/** Longest part of a value that a line shows, in characters. */
const MAX_SHOWN = 60;

/** Mistakes and warnings in the order in which they are to be read. */
export class Report {
  readonly mistakes: string[] = [];
  readonly warnings: string[] = [];

  mistake(...parts: (string | null)[]): void {
    this.mistakes.push(line(parts));
  }

  warn(...parts: (string | null)[]): void {
    this.warnings.push(line(parts));
  }
}

function line(parts: (string | null)[]): string {
  return parts.filter((part) => part !== null && part !== "").join(": ");
}

/** A value for a line: quoted, cut, without line ends; null for a list or a section. */
export function shown(raw: Raw | undefined, options: { secret: boolean }): string | null {
  if (raw === undefined || (typeof raw === "object" && raw !== null)) return null;
  // Nothing is hidden by hiding that it is empty, and that is often the mistake.
  if (options.secret && raw !== "") return "***";
  return typeof raw === "string" ? quoted(maskUserinfo(raw)) : `${raw}`;
}

/** A key or a path as it is, or quoted where that would not be plain. */
export function plain(name: string): string {
  return /^[\x21-\x7e]+$/.test(name) ? name : quoted(name);
}

/** In double quotes, on one line, cut where it is long. */
export function quoted(text: string): string {
  const cut = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  // JSON leaves these as they are: C1 controls, line separators, marks that turn the direction of text.
  return JSON.stringify(cut).replace(
    /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (ch) => `\\u${ch.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Hides user and password of a URL, also of one that is not well formed. */
export function maskUserinfo(text: string): string {
  return text.replace(/\/\/.*@/s, "//***@");
}
