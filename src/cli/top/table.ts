// Rows of a table on a terminal, and its colours.

import { cut, harmless, padded } from "./text.ts";

/** What is written on. */
export interface Paper {
  readonly columns: number;
  /** Infinity where lines are printed one behind the other. */
  readonly rows: number;
  readonly hasColour: boolean;
  /** A terminal whose cursor can be sent to a column. */
  readonly isScreen: boolean;
}

/** A cell of a row. */
export interface Cell {
  readonly text: string;
  /** Cells of the terminal; without it, what is left of the line: for the last one. */
  readonly width?: number;
  /** Numbers stand at the right. */
  readonly right?: boolean;
}

/**
 * One line. Terminals do not agree on the width of all characters, so on a screen each cell behind a
 * text that is not ASCII begins where the cursor is sent to, and columns stay columns.
 */
export function tableRow(cells: readonly Cell[], paper: Paper): string {
  let line = "";
  let at = 0;
  let isSure = true;
  for (const { text, width, right } of cells) {
    if (at > 0) {
      if (++at >= paper.columns) break;
      line += isSure || !paper.isScreen ? " " : `\x1b[${at + 1}G`;
      isSure = true;
    }
    const left = paper.columns - at;
    const cells = Math.min(width ?? left, left);
    if (right) line += cut(text, cells).padStart(cells);
    else line += width === undefined ? cut(text, cells) : padded(text, cells);
    at += cells;
    isSure = /^[\x20-\x7e]*$/.test(harmless(text));
  }
  return line;
}

/** Colours, where there are any. */
export class Painter {
  constructor(readonly paper: Paper) {}

  bold(text: string): string {
    return this.#paint("1", text);
  }

  red(text: string): string {
    return this.#paint("1;31", text);
  }

  yellow(text: string): string {
    return this.#paint("33", text);
  }

  green(text: string): string {
    return this.#paint("32", text);
  }

  /** The line above a table. */
  head(text: string): string {
    return this.#paint(
      "7",
      this.paper.hasColour ? padded(text, this.paper.columns) : cut(text, this.paper.columns),
    );
  }

  #paint(code: string, text: string): string {
    return this.paper.hasColour ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}
