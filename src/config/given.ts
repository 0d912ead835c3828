// What a source gave for a key: the value before it is checked, and the words that lead to its place.

import type { HjsonNode } from "./hjson_lines.ts";
import { plain } from "./report.ts";
import type { KeyName } from "./schema.ts";
import type { Raw } from "./value_types.ts";

/** Steps from a key's value to something in it: index in a list, key of an object. */
export type Steps = readonly PropertyKey[];

export interface Given {
  readonly name: KeyName;
  readonly raw: Raw;
  /** Leads a line about the value, or about the part of it that `steps` lead to. */
  place(steps?: Steps): string;
}

/** A value from the environment or the command line; `source` names it, such as `PUSHD_AUTH`. */
export function givenBySource(name: KeyName, raw: Raw, source: string): Given {
  return { name, raw, place: (steps = []) => [source, ...stepNames(steps)].join(": ") };
}

/** A value from the file `file`, with the line of what is meant where the text has one. */
export function givenByFile(
  name: KeyName,
  raw: Raw,
  file: string,
  entry: { line: number; value: HjsonNode },
): Given {
  return {
    name,
    raw,
    place: (steps = []) =>
      [`${file}:${lineOf(entry, steps)}`, name, ...stepNames(steps)].join(": "),
  };
}

function stepNames(steps: Steps): string[] {
  return steps.map((step) => typeof step === "number" ? `item ${step + 1}` : plain(String(step)));
}

function lineOf(entry: { line: number; value: HjsonNode }, steps: Steps): number {
  let { line, value } = entry;
  for (const step of steps) {
    if (value.kind === "array" && typeof step === "number" && step < value.items.length) {
      value = value.items[step];
      line = value.line;
    } else if (value.kind === "object") {
      const found = value.entries.findLast(({ key }) => key === step);
      // Something that is missing has no line: then that of what misses it.
      if (found === undefined) break;
      ({ line, value } = found);
    } else break;
  }
  return line;
}

/** The value of a node; numbers as the text that was written, `__proto__` left out. */
export function rawOf(node: HjsonNode): Raw {
  if (node.kind === "array") return node.items.map(rawOf);
  if (node.kind === "object") {
    return Object.fromEntries(
      node.entries.filter(({ key }) => key !== "__proto__").map(({ key, value }) => [
        key,
        rawOf(value),
      ]),
    );
  }
  if (node.kind !== "word") return node.text;
  return node.text === "null" ? null : node.text === "true";
}
