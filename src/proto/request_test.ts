// Request lines taken apart: words, options, and lines that come from somewhere else.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { WireError } from "./errors.ts";
import { checkWords, isHttpLine, parseRequest, shorten } from "./request.ts";

/** The code with which the words of `line` are refused, or "ok". */
function verdict(line: string, min: number, max: number): string {
  try {
    checkWords(parseRequest(line).words, min, max, "the usage");
    return "ok";
  } catch (error) {
    assert.ok(error instanceof WireError);
    assert.match(error.message, /the usage/);
    return error.code;
  }
}

Deno.test("words are parted by exactly one space", () => {
  assert.deepEqual(parseRequest("sub c 0"), { command: "sub", words: ["c", "0"] });
  assert.deepEqual(parseRequest("ping"), { command: "ping", words: [] });
  assert.deepEqual(parseRequest("ping "), { command: "ping", words: [""] });
  assert.deepEqual(parseRequest("sub  c"), { command: "sub", words: ["", "c"] });
  assert.deepEqual(parseRequest(" ping"), { command: "", words: ["ping"] });
  assert.deepEqual(parseRequest("sub\tc"), { command: "sub\tc", words: [] });
  assert.deepEqual(parseRequest("sub\u00a0c"), { command: "sub\u00a0c", words: [] });
});

Deno.test("case is folded where a command is ASCII, and nowhere else", () => {
  for (const typed of ["sub", "SUB", "SuB"]) {
    assert.equal(parseRequest(`${typed} C`).command, "sub");
  }
  assert.equal(parseRequest("AUTH_server a B").command, "auth_server");
  assert.deepEqual(parseRequest("SUB ÀBC").words, ["ÀBC"]);
  // Long s, dotless i, dotted I and the Kelvin sign become ASCII letters by Unicode's folding.
  for (const typed of ["\u017fub", "p\u0131ng", "P\u0130NG", "\u212aick"]) {
    assert.equal(parseRequest(`${typed} c`).command, typed);
    assert.notEqual(typed.toLowerCase() + typed.toUpperCase(), typed + typed);
  }
});

Deno.test("a missing word, an empty one, one too many, an option", () => {
  assert.equal(verdict("his c 0", 2, 3), "ok");
  assert.equal(verdict("his c 0 1", 2, 3), "ok");
  assert.equal(verdict("his", 2, 3), "missing-argument");
  assert.equal(verdict("his c", 2, 3), "missing-argument");
  assert.equal(verdict("his c 0 1 2", 2, 3), "bad-argument");
  for (const line of ["his ", "his  c 0", "his c  0", "his c 0 ", "his c 0  1"]) {
    assert.equal(verdict(line, 2, 3), "bad-argument", line);
  }
  assert.equal(verdict("ping", 0, 0), "ok");
  assert.equal(verdict("ping x", 0, 0), "bad-argument");
  for (const line of ["sub -", "sub -id=1", "sub -id=1 c", "ping -x"]) {
    assert.equal(verdict(line, 0, 1), "bad-argument", line);
  }
});

Deno.test("lines of an HTTP client", () => {
  for (
    const line of [
      "GET / HTTP/1.1",
      "POST /pub/c HTTP/1.0",
      "get /a b HTTP/2",
      "PRI * HTTP/2.0",
      "Host: x",
      "host:x",
    ]
  ) assert.ok(isHttpLine(line), line);
  for (
    const line of ["ping", "HTTP/1.1 200 OK", "GET /", "hostess: x", "x host: y", "GET / HTTP/1.1 "]
  ) {
    assert.ok(!isHttpLine(line), line);
  }
});

Deno.test("what is shown of a client's words is short and visible", () => {
  assert.equal(shorten("abc"), "abc");
  assert.equal(shorten("a".repeat(40)), "a".repeat(40));
  assert.equal(shorten("a".repeat(41)), `${"a".repeat(40)}…`);
  assert.equal(shorten("abcdef", 3), "abc…");
  fc.assert(fc.property(anyText(), (text) => {
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(shorten(text), /[\u0000-\u001f\u007f-\u009f]/);
    assert.ok(shorten(text).length <= 41);
  }));
});
