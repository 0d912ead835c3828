// A scanner of Hjson text that finds what the hjson library forgets: lines, quotes, and keys given twice.

/** A place in the text; both count from 1, columns in UTF-16 code units. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A value as it was written. */
export type HjsonNode = HjsonObject | HjsonArray | HjsonScalar;

export interface HjsonObject extends Place {
  readonly kind: "object";
  /** In the order of the text; a key given twice is there twice. */
  readonly entries: HjsonEntry[];
}

export interface HjsonEntry extends Place {
  readonly key: string;
  readonly value: HjsonNode;
}

export interface HjsonArray extends Place {
  readonly kind: "array";
  readonly items: HjsonNode[];
}

export interface HjsonScalar extends Place {
  /** What it is to Hjson; `word` is an unquoted `true`, `false` or `null`. */
  readonly kind: "string" | "number" | "word";
  readonly quoted: boolean;
  /** The value of a string; the text of a number or word, as written. */
  readonly text: string;
}

/** Why and where the text is not Hjson. */
export interface HjsonFault extends Place {
  readonly message: string;
  /** Keys on the way to the place, outermost first. */
  readonly path: readonly string[];
}

export type HjsonScan =
  | { readonly ok: true; readonly root: HjsonObject | HjsonArray }
  | { readonly ok: false; readonly fault: HjsonFault };

/** Deeper nesting than this is refused; a configuration has three levels. */
const MAX_DEPTH = 32;

/** Longer values need quotes, in characters: the library takes quadratic time for them without. */
const MAX_UNQUOTED = 4096;

const ESCAPES: Record<string, string> = {
  '"': '"',
  "'": "'",
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]?\d+)?[\0-\x20]*$/;

/**
 * Reads `source` by the rules of the hjson library, which stays the judge of what Hjson is; only a
 * text that is one single value, which the library takes, is a fault here. Never throws; a leading BOM
 * has to be taken away before.
 */
export function scanHjson(source: string): HjsonScan {
  const scanner = new Scanner(source);
  try {
    return { ok: true, root: scanner.root() };
  } catch (error) {
    if (!(error instanceof ScanStop)) throw error;
    return { ok: false, fault: scanner.explain(error) };
  }
}

/** Where and why the scanner gave up. */
class ScanStop extends Error {
  constructor(message: string, readonly at: number, readonly unclosed = false) {
    super(message);
  }
}

/** An object or array that was opened and not closed yet. */
interface Open {
  readonly bracket: "{" | "[";
  readonly at: number;
  /** An unquoted string in it that holds a closing bracket, if there was one. */
  swallowed: { readonly at: number; readonly path: readonly string[] } | null;
}

class Scanner {
  readonly #text: string;
  #at = 0;
  #open: Open[] = [];
  #path: string[] = [];
  #lineStarts: number[] | null = null;

  constructor(text: string) {
    this.#text = text;
  }

  root(): HjsonObject | HjsonArray {
    this.#skipWhite();
    const first = this.#peek();
    const root = first === "{" || first === "[" ? this.#bracketed(first) : this.#members(0, false);
    this.#skipWhite();
    if (this.#peek() === "") return root;
    throw new ScanStop(
      "the text goes on behind its end; is a closing bracket too early?",
      this.#at,
    );
  }

  /** The fault for a stop; a bracket swallowed by an unquoted string is named as the cause. */
  explain(stop: ScanStop): HjsonFault {
    const inner = this.#open.at(-1);
    if (
      inner !== undefined &&
      /^\[[0-9a-f.]*:[0-9a-f:.]*\]:\d/i.test(this.#text.slice(inner.at, inner.at + 50))
    ) {
      return {
        ...this.#place(inner.at),
        path: [...this.#path],
        message: 'an address that begins with "[" needs quotes, as in "[::1]:2222"',
      };
    }
    const cause = this.#open.findLast((open) => open.swallowed !== null);
    if (cause !== undefined && cause.swallowed !== null) {
      const closing = cause.bracket === "{" ? "}" : "]";
      return {
        ...this.#place(cause.swallowed.at),
        path: cause.swallowed.path,
        message: "a value without quotes runs to the end of its line, and this one took a " +
          `"${closing}" with it; quote the value, or put the "${closing}" on a line of its own`,
      };
    }
    return { ...this.#place(stop.at), path: [...this.#path], message: stop.message };
  }

  #value(): HjsonNode {
    this.#skipWhite();
    const at = this.#at;
    const ch = this.#peek();
    if (ch === "{" || ch === "[") return this.#bracketed(ch);
    if (ch === '"' || ch === "'") {
      return { ...this.#place(at), kind: "string", quoted: true, text: this.#string(true) };
    }
    return this.#unquoted();
  }

  #bracketed(bracket: "{" | "["): HjsonObject | HjsonArray {
    const at = this.#at;
    if (this.#open.length >= MAX_DEPTH) {
      throw new ScanStop(`nested more than ${MAX_DEPTH} levels deep`, at);
    }
    this.#open.push({ bracket, at, swallowed: null });
    this.#at++;
    const node = bracket === "{" ? this.#members(at, true) : this.#items(at);
    this.#open.pop();
    return node;
  }

  /** The keys and values of an object, behind its `{`, or of a root without braces. */
  #members(startAt: number, braces: boolean): HjsonObject {
    const entries: HjsonEntry[] = [];
    this.#skipWhite();
    while (this.#peek() !== "") {
      if (braces && this.#peek() === "}") {
        this.#at++;
        return { ...this.#place(startAt), kind: "object", entries };
      }
      const at = this.#at;
      const key = this.#key();
      this.#path.push(key);
      this.#skipWhite();
      if (this.#peek() !== ":") {
        throw new ScanStop(`a ":" is expected behind the key`, this.#at);
      }
      this.#at++;
      entries.push({ ...this.#place(at), key, value: this.#value() });
      this.#path.pop();
      this.#skipComma();
    }
    if (braces) this.#throwUnclosed();
    return { ...this.#place(startAt), kind: "object", entries };
  }

  #items(startAt: number): HjsonArray {
    const items: HjsonNode[] = [];
    this.#skipWhite();
    while (this.#peek() !== "") {
      if (this.#peek() === "]") {
        this.#at++;
        return { ...this.#place(startAt), kind: "array", items };
      }
      items.push(this.#value());
      this.#skipComma();
    }
    return this.#throwUnclosed();
  }

  #throwUnclosed(): never {
    const open = this.#open[this.#open.length - 1];
    const closing = open.bracket === "{" ? "}" : "]";
    throw new ScanStop(`this "${open.bracket}" has no "${closing}"`, open.at);
  }

  #key(): string {
    const at = this.#at;
    const first = this.#peek();
    if (first === '"' || first === "'") return this.#string(false);
    // One past the last character of the name; white space may stand between it and the colon.
    let end = at;
    for (let i = at; i < this.#text.length; i++) {
      const ch = this.#text[i];
      if (ch === ":") {
        if (end === at) throw new ScanStop('a key is missing before the ":"', at);
        this.#at = i;
        return this.#text.slice(at, end);
      }
      if (ch <= " ") continue;
      if ("{}[],".includes(ch)) throw new ScanStop(`a key is expected, and here is a "${ch}"`, i);
      if (end !== i) {
        throw new ScanStop(
          'a ":" is expected behind the key; a key with a space needs quotes',
          end,
        );
      }
      end = i + 1;
    }
    if (this.#open.length > 0) this.#throwUnclosed();
    throw new ScanStop('a ":" and a value are missing behind the key', at);
  }

  /** A quoted string; also `'''…'''` where `multiline` is set. */
  #string(multiline: boolean): string {
    const start = this.#at;
    const quote = this.#peek();
    let value = "";
    for (let i = start + 1; i < this.#text.length; i++) {
      const ch = this.#text[i];
      if (ch === quote) {
        if (multiline && i === start + 1 && this.#text.startsWith("'''", start)) {
          return this.#multiline(start);
        }
        this.#at = i + 1;
        return value;
      }
      if (ch === "\n" || ch === "\r") {
        throw new ScanStop("the quote is not closed on its line", start);
      }
      if (ch !== "\\") {
        value += ch;
        continue;
      }
      const escape = this.#text[++i] ?? "";
      if (escape === "u") {
        const hex = this.#text.slice(i + 1, i + 5);
        if (!/^[0-9a-fA-F]{4}$/.test(hex)) {
          throw new ScanStop("behind \\u four hexadecimal digits are expected", i - 1);
        }
        value += String.fromCharCode(Number.parseInt(hex, 16));
        i += 4;
      } else if (Object.hasOwn(ESCAPES, escape)) {
        value += ESCAPES[escape];
      } else {
        throw new ScanStop('a "\\" in quotes is written "\\\\"', i - 1);
      }
    }
    throw new ScanStop("the quote is not closed", start);
  }

  /** The text between triple quotes, the indent of the first line taken off the others. */
  #multiline(start: number): string {
    const end = this.#text.indexOf("'''", start + 3);
    if (end === -1) throw new ScanStop("the ''' is not closed", start);
    this.#at = end + 3;
    const indent = start - (this.#text.lastIndexOf("\n", start - 1) + 1);
    const lines = this.#text.slice(start + 3, end).split("\n");
    const first = lines[0].replace(/^[\0-\x20]+/, "");
    const rest = lines.slice(1).map((line) => {
      let skip = 0;
      while (skip < indent && skip < line.length && line[skip] <= " ") skip++;
      return line.slice(skip);
    });
    return (first === "" && rest.length > 0 ? rest : [first, ...rest]).join("\n")
      .replaceAll("\r", "").replace(/\n$/, "");
  }

  /** A number, a word, or a string without quotes, which runs to the end of its line. */
  #unquoted(): HjsonScalar {
    const at = this.#at;
    const first = this.#peek();
    // At the end of the text it is an empty string.
    if (first !== "" && "{}[],:".includes(first)) {
      throw new ScanStop(
        first === ":"
          ? 'a value that begins with ":" needs quotes, as in ":2222"'
          : `a value is expected, and here is a "${first}"; quote it if it belongs to the value`,
        at,
      );
    }
    let end = at;
    while (end < this.#text.length && !/[\r\n]/.test(this.#text[end])) end++;
    const line = this.#text.slice(at, end);
    // Only a whole number or word ends before the line does: what follows it is not part of it.
    const stop = line.slice(1).search(/[,}\]#]|\/[/*]/);
    const head = stop === -1 ? line : line.slice(0, stop + 1);
    const kind = /^(?:true|false|null)$/.test(head.trim()) && /^[tfn]/.test(head)
      ? "word"
      : NUMBER.test(head) && Number.isFinite(Number(head))
      ? "number"
      : null;
    if (kind !== null) {
      this.#at = at + head.length;
      return { ...this.#place(at), kind, quoted: false, text: head.trim() };
    }
    if (line.length > MAX_UNQUOTED) {
      throw new ScanStop(`a value of more than ${MAX_UNQUOTED} characters needs quotes`, at);
    }
    this.#at = end;
    const open = this.#open[this.#open.length - 1];
    if (
      open !== undefined && (open.bracket === "{" ? /\}[\]},]*\s*$/ : /\][\]},]*\s*$/).test(line)
    ) {
      open.swallowed ??= { at, path: [...this.#path] };
    }
    return { ...this.#place(at), kind: "string", quoted: false, text: line.trim() };
  }

  #skipComma(): void {
    this.#skipWhite();
    if (this.#peek() !== ",") return;
    this.#at++;
    this.#skipWhite();
  }

  #skipWhite(): void {
    const text = this.#text;
    for (;;) {
      while (this.#at < text.length && text[this.#at] <= " ") this.#at++;
      if (text[this.#at] === "#" || text.startsWith("//", this.#at)) {
        const end = text.indexOf("\n", this.#at);
        this.#at = end === -1 ? text.length : end;
      } else if (text.startsWith("/*", this.#at)) {
        const end = text.indexOf("*/", this.#at + 2);
        this.#at = end === -1 ? text.length : end + 2;
      } else return;
    }
  }

  #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #place(at: number): Place {
    this.#lineStarts ??= [0, ...[...this.#text.matchAll(/\n/g)].map((match) => match.index + 1)];
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lineStarts[middle] <= at) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: at - this.#lineStarts[low] + 1 };
  }
}
