// Takes the keys out of the text of a configuration file, and finds what Hjson itself lets pass.

import Hjson from "hjson";
import { messageOf } from "../core/message_of.ts";
import { type Given, givenByFile, rawOf } from "./given.ts";
import {
  type HjsonEntry,
  type HjsonNode,
  type HjsonObject,
  type HjsonScalar,
  scanHjson,
} from "./hjson_lines.ts";
import { nearest } from "./nearest.ts";
import { plain, type Report, shown } from "./report.ts";
import { isKeyName, KEY_NAMES, type KeyName, SECTIONS, specOf, WITHOUT_EFFECT } from "./schema.ts";

const TOP_LEVEL: readonly string[] = [
  ...KEY_NAMES.filter((name) => !name.includes(".")),
  ...SECTIONS,
  ...WITHOUT_EFFECT,
];

/**
 * The values that `text` holds, and the keys whose value had to be refused before its type was looked
 * at. `file` names the text in the lines that go to `report`.
 */
export function valuesFromFile(
  text: string,
  file: string,
  report: Report,
): { given: Given[]; refused: Set<KeyName> } {
  const root = parse(text, file, report);
  if (root === null) return { given: [], refused: new Set() };
  const reader = new Reader(file, report);
  reader.readTopLevel(root);
  return reader;
}

/** The tree of `text`, or null when it is not Hjson or not a list of keys; that is reported. */
function parse(text: string, file: string, report: Report): HjsonObject | null {
  const scan = scanHjson(text);
  if (!scan.ok) {
    const { line, column, path, message } = scan.fault;
    const keys = path.length > 4 ? [...path.slice(0, 4), "…"] : path;
    report.mistake(`${file}:${line}:${column}`, keys.map(plain).join("."), message);
    return null;
  }
  try {
    // The library decides what Hjson is; the scanner only knows more about what it accepts.
    Hjson.parse(text);
  } catch (error) {
    const message = messageOf(error);
    // What follows ">>>" quotes the file, which may hold secrets.
    const [, what, line, column] = /^(.*?) at line (\d+),(\d+)/s.exec(message) ?? [];
    const place = line === undefined ? file : `${file}:${line}:${column}`;
    report.mistake(place, what ?? "not Hjson");
    return null;
  }
  if (scan.root.kind === "object") return scan.root;
  report.mistake(
    `${file}:${scan.root.line}`,
    "no keys here; write one on each line, as key: value",
  );
  return null;
}

class Reader {
  readonly given: Given[] = [];
  readonly refused = new Set<KeyName>();
  readonly #file: string;
  readonly #report: Report;

  constructor(file: string, report: Report) {
    this.#file = file;
    this.#report = report;
  }

  readTopLevel(root: HjsonObject): void {
    for (const entry of this.#entries(root, "")) {
      const { key, value } = entry;
      if (SECTIONS.includes(key)) this.#readSection(entry);
      else if (isKeyName(key) && !key.includes(".")) this.#readValue(key, entry);
      else {
        this.#checkInside(value, key);
        if (WITHOUT_EFFECT.includes(key)) {
          this.#report.warn(this.#at(entry), key, "has no effect; it can be taken out");
        } else this.#warnUnknown(entry, key, TOP_LEVEL);
      }
    }
  }

  #readSection(section: HjsonEntry): void {
    const { key: name, value } = section;
    const leaves = KEY_NAMES.filter((key) => key.startsWith(`${name}.`));
    if (value.kind !== "object") {
      const secret = leaves.some((leaf) => specOf(leaf).secret);
      this.#report.mistake(
        this.#at(section),
        name,
        shown(rawOf(value), { secret }),
        `not a section; write ${name}: { … }, with each key in it on a line of its own`,
      );
      leaves.forEach((leaf) => this.refused.add(leaf));
      return;
    }
    for (const entry of this.#entries(value, name)) {
      const full = `${name}.${entry.key}`;
      if (isKeyName(full)) this.#readValue(full, entry);
      else {
        this.#checkInside(entry.value, full);
        this.#warnUnknown(entry, full, leaves);
      }
    }
  }

  #readValue(name: KeyName, entry: HjsonEntry): void {
    this.#checkInside(entry.value, name, specOf(name).type.itemKeys);
    const faults = unquotedFaults(entry.value, entry.line);
    for (const { node, own, message } of faults) {
      const value = own ? shown(beforeTrap(node.text), { secret: specOf(name).secret }) : null;
      this.#report.mistake(`${this.#file}:${node.line}`, name, value, message);
    }
    if (faults.length > 0) this.refused.add(name);
    else this.given.push(givenByFile(name, rawOf(entry.value), this.#file, entry));
  }

  /** The entries of an object, of a key given twice only the last, which is reported. */
  #entries(object: HjsonObject, path: string): HjsonEntry[] {
    const first = new Map<string, HjsonEntry>();
    const last = new Map<string, HjsonEntry>();
    for (const entry of object.entries) {
      const { key } = entry;
      const earlier = first.get(key);
      if (earlier === undefined) first.set(key, entry);
      else {
        this.#report.mistake(
          this.#at(entry),
          plain(path === "" ? key : `${path}.${key}`),
          `given twice, on line ${earlier.line} and on line ${entry.line}; keep one of them`,
        );
      }
      last.set(key, entry);
    }
    return [...last.values()];
  }

  /** Finds keys given twice, and where `known` is given, unknown ones, inside a value. */
  #checkInside(node: HjsonNode, path: string, known?: readonly string[]): void {
    if (node.kind === "array") node.items.forEach((item) => this.#checkInside(item, path, known));
    if (node.kind !== "object") return;
    for (const entry of this.#entries(node, path)) {
      if (known !== undefined && !known.includes(entry.key)) {
        this.#warnUnknown(entry, `${path}.${entry.key}`, known);
      }
      this.#checkInside(entry.value, `${path}.${entry.key}`);
    }
  }

  #warnUnknown(entry: HjsonEntry, name: string, known: readonly string[]): void {
    const dot = name.indexOf(".");
    const hint = entry.key === name && isKeyName(name)
      ? `write it in its section, as ${name.slice(0, dot)}: { … }`
      : `the nearest known name is "${nearest(name, known)}"`;
    this.#report.warn(this.#at(entry), plain(name), `unknown key, left out; ${hint}`);
  }

  #at(entry: HjsonEntry): string {
    return `${this.#file}:${entry.line}`;
  }
}

/** An unquoted value that is not what was meant; not `own` where it is the text of something else. */
interface UnquotedFault {
  readonly node: HjsonScalar;
  readonly own: boolean;
  readonly message: string;
}

/**
 * What unquoted values took along that was not meant to be part of them. `keyLine` is the line of the
 * key that `node` belongs to, or null for an item of a list.
 */
function unquotedFaults(node: HjsonNode, keyLine: number | null): UnquotedFault[] {
  if (node.kind === "array") return node.items.flatMap((item) => unquotedFaults(item, null));
  if (node.kind === "object") {
    return node.entries.flatMap(({ value, line }) => unquotedFaults(value, line));
  }
  if (node.quoted) return [];
  if (node.text === "") {
    return [{ node, own: false, message: 'no value; write one, "" for an empty one' }];
  }
  if (keyLine !== null && node.line !== keyLine) {
    const message = `no value on line ${keyLine}, so that this line was taken for it; ` +
      'write one behind the key, "" for an empty one';
    return [{ node, own: false, message }];
  }
  const trap = node.kind === "string" ? trapOf(node.text) : null;
  if (trap === null) return [];
  const message = "a value without quotes runs to the end of its line, and this one took " +
    `${trap.what} with it; quote the value, or ${trap.or}`;
  return [{ node, own: true, message }];
}

/** The comma, comment, bracket or further key in an unquoted value, and where it begins. */
function trapOf(text: string): { index: number; what: string; or: string } | null {
  const comment = /\s(?:#|\/\/|\/\*)/.exec(text);
  const further = /,\s*["']?[a-z_][a-z0-9_.]*["']?\s*:(?=\s|["'[{]|$)/i.exec(text);
  const traps: { index: number; what: string; or: string }[] = [];
  const ownLine = (what: string) => `put ${what} on a line of its own`;
  if (comment) traps.push({ index: comment.index, what: "a comment", or: ownLine("the comment") });
  if (further) traps.push({ index: further.index, what: "the next key", or: ownLine("that") });
  let index = text.length;
  while (index > 0 && ",}] \t".includes(text[index - 1])) index--;
  const end = text.slice(index).replace(/\s/g, "");
  if (end === ",") traps.push({ index, what: "a comma", or: "drop the comma" });
  else if (end !== "") {
    const what = `the "${end.replaceAll(",", "")}"`;
    traps.push({ index, what, or: ownLine(what) });
  }
  return traps.sort((a, b) => a.index - b.index)[0] ?? null;
}

/** An unquoted value up to what it took along: that may be another key's secret. */
function beforeTrap(text: string): string {
  const trap = trapOf(text);
  return trap === null ? text : `${text.slice(0, trap.index)} …`.trim();
}
