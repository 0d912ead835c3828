// A request line taken apart into its command, options and words.

import { WireError } from "./errors.ts";

/** One request other than a well-formed `pub`. */
export interface Request {
  /** The command as the table of commands spells it (ASCII lower case), or as it was typed. */
  readonly command: string;
  /** The words behind the command; an empty string where two spaces met or the line ends in one. */
  readonly words: readonly string[];
}

/** Parts `line` at each single space; the command is folded to lower case where it is ASCII. */
export function parseRequest(line: string): Request {
  const [first, ...words] = line.split(" ");
  // Not `toLowerCase` on any word: Unicode folding turns "ſub" (U+017F) into SUB.
  const command = /^[A-Za-z_]+$/.test(first) ? first.toLowerCase() : first;
  return { command, words };
}

/**
 * Checks a command's words: version 1 has no options, no word is empty, and there are between
 * `min` and `max` of them. `usage` is the command's syntax for the explanation.
 * Throws `bad-argument` or `missing-argument`.
 */
export function checkWords(
  words: readonly string[],
  min: number,
  max: number,
  usage: string,
): void {
  checkOptions(words, usage);
  if (words.includes("")) {
    throw new WireError(
      "bad-argument",
      `an empty word: put exactly one space between words: ${usage}`,
    );
  }
  if (words.length < min) throw new WireError("missing-argument", `usage: ${usage}`);
  if (words.length > max) {
    throw new WireError("bad-argument", `${words.length - max} too many words: ${usage}`);
  }
}

/** Refuses options (`-name` before the first argument), of which version 1 defines none. */
export function checkOptions(words: readonly string[], usage: string): void {
  if (words.length > 0 && words[0].startsWith("-")) {
    throw new WireError("bad-argument", `unknown option "${shorten(words[0])}": ${usage}`);
  }
}

/** Whether a line that is no command comes from an HTTP client: a request line or a Host header. */
export function isHttpLine(line: string): boolean {
  return / HTTP\/[0-9.]+$/i.test(line) || /^host:/i.test(line);
}

/** `text` cut to a length that fits an error line, control characters made visible as `\\x07`. */
export function shorten(text: string, max = 40): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  // deno-lint-ignore no-control-regex
  return cut.replace(/[\u0000-\u001f\u007f-\u009f]/g, (control) => {
    return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
