// Tests of the command line.

import assert from "node:assert/strict";
import { parseArgs, type ServeArgs } from "./args.ts";

const DEFAULTS: ServeArgs = {
  command: "serve",
  level: "info",
  log: "stdout",
  logFormat: "text",
  overrides: {},
};

function usageError(...argv: string[]): string {
  const parsed = parseArgs(argv);
  if (parsed.command !== "usage_error") return assert.fail(`${argv.join(" ")}: ${parsed.command}`);
  assert.ok(!parsed.message.includes("\n"), parsed.message);
  return parsed.message;
}

Deno.test("parseArgs: without a command it is serve", () => {
  assert.deepEqual(parseArgs([]), DEFAULTS);
  assert.deepEqual(parseArgs(["serve"]), DEFAULTS);
});

Deno.test("parseArgs: options of serve, in the original's form too, before and behind it", () => {
  const conf = { ...DEFAULTS, conf: "a.cf" };
  for (
    const argv of [
      ["--conf", "a.cf"],
      ["--conf=a.cf"],
      ["-conf", "a.cf"],
      ["-conf=a.cf"],
      ["serve", "-conf", "a.cf"],
      ["-conf", "a.cf", "serve"],
    ]
  ) assert.deepEqual(parseArgs(argv), conf, argv.join(" "));
  assert.deepEqual(parseArgs(["-level", "debug", "-log", "x.log", "--log-format", "json"]), {
    ...DEFAULTS,
    level: "debug",
    log: "x.log",
    logFormat: "json",
  });
  // The value of an option is left alone, whatever it looks like.
  assert.deepEqual(parseArgs(["-conf", "-level"]), { ...DEFAULTS, conf: "-level" });
  assert.deepEqual(parseArgs(["--conf", "sub"]), { ...DEFAULTS, conf: "sub" });
});

Deno.test("parseArgs: version and help", () => {
  for (const argv of [["-v"], ["--version"], ["-version"], ["version"], ["serve", "-v"]]) {
    assert.deepEqual(parseArgs(argv), { command: "version" }, argv.join(" "));
  }
  for (const argv of [["-h"], ["--help"], ["-help"], ["help"], ["serve", "--help"]]) {
    const parsed = parseArgs(argv);
    assert.ok(parsed.command === "help", argv.join(" "));
    for (const word of ["--conf", "--level", "--log-format", "check-config"]) {
      assert.ok(parsed.text.includes(word), word);
    }
  }
  const check = parseArgs(["check-config", "--help"]);
  assert.ok(check.command === "help" && check.text.includes("[FILE]"));
});

Deno.test("parseArgs: check-config", () => {
  assert.deepEqual(parseArgs(["check-config"]), { command: "check_config" });
  assert.deepEqual(parseArgs(["check-config", "a.cf"]), { command: "check_config", file: "a.cf" });
  assert.deepEqual(parseArgs(["check-config", "-conf", "a.cf"]), {
    command: "check_config",
    file: "a.cf",
  });
  assert.match(usageError("check-config", "a", "b"), /too many arguments/);
  assert.match(usageError("check-config", "a", "--conf", "b"), /one file/);
  assert.match(usageError("check-config", ""), /name of a file/);
});

Deno.test("parseArgs: backup and storage", () => {
  assert.deepEqual(parseArgs(["backup", "a.db"]), { command: "backup", to: "a.db" });
  assert.deepEqual(parseArgs(["backup", "a.db", "--conf", "b.cf"]), {
    command: "backup",
    to: "a.db",
    conf: "b.cf",
  });
  assert.deepEqual(parseArgs(["storage", "export"]), { command: "export" });
  assert.deepEqual(parseArgs(["-conf", "b.cf", "storage", "import"]), {
    command: "import",
    conf: "b.cf",
  });
  assert.match(usageError("backup"), /missing required argument 'file'/);
  assert.match(usageError("backup", ""), /name of a file/);
  assert.match(usageError("backup", "a", "b"), /too many arguments/);
  assert.match(usageError("storage"), /missing required argument/);
  assert.match(usageError("storage", "list"), /list.*export, import/);
});

Deno.test("parseArgs: top", () => {
  const plain = { command: "top", url: "http://127.0.0.1:9020", once: false, json: false };
  assert.deepEqual(parseArgs(["top"]), { ...plain, intervalMs: 2000 });
  const more = ["--stats", "[::1]:1", "--stats-token", "t", "--once", "--json", "--interval", "1m"];
  const all = { ...plain, url: "http://[::1]:1", once: true, json: true, intervalMs: 60_000 };
  assert.deepEqual(parseArgs(["top", ...more]), { ...all, token: "t" });
  assert.deepEqual(parseArgs([...more.slice(0, 2), "top"]).command, "top");
  assert.match(usageError("top", "--stats", "h"), /--stats "h": an address without a port/);
  assert.match(usageError("top", "--interval", "1"), /--interval "1": not a duration/);
  assert.match(usageError("top", "--interval", "2h"), /write 500ms to 1h/);
});

Deno.test("parseArgs: what nobody knows is named, with the nearest that somebody does", () => {
  assert.match(usageError("srve"), /unknown command "srve"; the nearest is "serve"/);
  assert.match(usageError("--cofn", "a.cf"), /unknown option "--cofn"; the nearest is --conf/);
  assert.match(usageError("-cofn", "a.cf"), /unknown option "-cofn"; the nearest is --conf/);
  assert.match(usageError("check-config", "--strict"), /unknown option "--strict"/);
  assert.match(usageError("__proto__"), /unknown command "__proto__"/);
  assert.match(usageError("a\nb"), /unknown command "a\\nb"/);
});

Deno.test("parseArgs: wrong and missing values", () => {
  assert.match(usageError("--level", "loud"), /loud.*debug, info, warn, error/);
  assert.match(usageError("--log-format", "xml"), /text, json/);
  assert.match(usageError("--conf"), /--conf <file>.*missing/);
  assert.match(usageError("--conf="), /--conf needs/);
  assert.match(usageError("--log", ""), /--log needs/);
  assert.match(usageError("serve", "a.cf"), /too many arguments/);
});
