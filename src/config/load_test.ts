// Tests of loading a file: its text, and every kind of mistake in it.

import assert from "node:assert/strict";
import fc from "fast-check";
import { DEFAULT_PATH, loadConfig, pathToRead } from "./load.ts";
import { type Config, defaultConfig } from "./schema.ts";

function load(
  text: string,
  env: Record<string, string> = {},
): { config: Config; warnings: string[] } {
  const result = loadConfig({ path: "etc/pushd.cf", text, env });
  if (!result.ok) assert.fail(result.mistakes.join("\n"));
  return result;
}

function mistakesOf(text: string): string[] {
  const result = loadConfig({ path: "etc/pushd.cf", text });
  if (result.ok) assert.fail(`${JSON.stringify(text)} was taken`);
  for (const line of [...result.mistakes, ...result.warnings]) {
    // deno-lint-ignore no-control-regex
    assert.ok(!/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(line), `one line: ${JSON.stringify(line)}`);
  }
  return result.mistakes;
}

function mistakeOf(text: string): string {
  const mistakes = mistakesOf(text);
  assert.equal(mistakes.length, 1, mistakes.join("\n"));
  return mistakes[0];
}

Deno.test("loadConfig: an empty file gives the defaults", () => {
  for (const text of ["", "{}", "\n# nothing\n", "\uFEFF"]) {
    assert.deepEqual(load(text).config, defaultConfig());
    assert.deepEqual(load(text).warnings, []);
  }
  const config = defaultConfig();
  assert.equal(config.session_timeout, 600_000);
  assert.equal(config.max_line_bytes, 65_536);
  assert.deepEqual(config.tcp_listen_addr, {
    hostname: "127.0.0.1",
    port: 2222,
    text: "127.0.0.1:2222",
  });
  assert.equal(config.max_connections, null);
  assert.equal(config.msg_storage, "sqlite");
  assert.equal(config.sqlite.path, "pushd.db");
});

Deno.test("loadConfig: values of every kind", () => {
  const { config } = load(`
    tcp_listen_addr: ":2222" // quoted
    session_timeout: 1000h
    max_connections: 5000, # with a comma
    max_line_bytes: 1024
    auth: on
    stats_listen_addr: ""
    stats_token: 12345
    allowed_hosts: [
      Push.Example.org
      "other.example.org"
    ]
    web_origins: ["https://Chat.Example.org:443"]
    apps: [
      { id: "chat", secret: "s3cret" }
      {
        id: game
        secret: x
      }
    ]
    "sqlite": { "path": "/tmp/a # b.db" }
  `);
  assert.equal(config.tcp_listen_addr.hostname, "::");
  assert.equal(config.session_timeout, 3_600_000_000);
  assert.equal(config.max_connections, 5000);
  assert.equal(config.max_line_bytes, 1024);
  assert.equal(config.auth, "on");
  assert.equal(config.stats_listen_addr, null);
  assert.equal(config.stats_token, "12345");
  assert.deepEqual(config.allowed_hosts, ["push.example.org", "other.example.org"]);
  assert.deepEqual(config.web_origins, ["https://chat.example.org"]);
  assert.deepEqual(config.apps, [{ id: "chat", secret: "s3cret" }, { id: "game", secret: "x" }]);
  assert.equal(config.sqlite.path, "/tmp/a # b.db");
});

Deno.test("loadConfig: every mistake at once, each with file, line, key, value", () => {
  assert.deepEqual(
    mistakesOf(`{
  session_timeout: "5"
  tcp_backlog: 0
  sqlite: {
    path: ""
  }
  auth: yes
  tcp_backlog: 1
}`),
    [
      'etc/pushd.cf:2: session_timeout: "5": not a duration; write whole numbers with a unit, such as 500ms, 5s, 2m or 1h30m',
      'etc/pushd.cf:5: sqlite.path: "": empty; a path is needed',
      'etc/pushd.cf:7: auth: "yes": write "off" or "on"',
      "etc/pushd.cf:8: tcp_backlog: given twice, on line 3 and on line 8; keep one of them",
    ],
  );
});

Deno.test("loadConfig: after a syntax error only that one", () => {
  assert.equal(
    mistakeOf("session_timeout: 5\nauth: 'off\n"),
    "etc/pushd.cf:2:7: auth: the quote is not closed on its line",
  );
  assert.match(mistakeOf("[1]"), /^etc\/pushd\.cf:1: no keys here/);
});

Deno.test("loadConfig: unquoted values that took something along are refused", () => {
  assert.match(mistakeOf("auth: off,"), /:1: auth: "off …": .*quote the value, or drop the comma/);
  assert.match(mistakeOf("session_timeout: 5s # x"), /"5s …": .*a comment.*quote the value/);
  assert.match(mistakeOf("session_timeout: 5s\t// x"), /a comment/);
  assert.match(mistakeOf("auth: off /* x */"), /a comment/);
  assert.match(mistakeOf("tcp_listen_addr: :2222"), /:1:18: tcp_listen_addr: .*needs quotes/);
  assert.match(mistakeOf("tcp_listen_addr: [::1]:2222"), /needs quotes/);
  assert.match(mistakeOf("auth: off, stats_token: hunter2"), /the next key/);
  assert.match(mistakeOf("stats_token: ab}"), /\*\*\*: .*the "}"/);
  assert.match(mistakeOf("allowed_hosts: [a.org, b.org]"), /took a "\]" with it/);
  assert.match(mistakeOf("sqlite: { path: a.db }\nauth: on"), /:1:17: sqlite\.path: .*took a "}"/);
  assert.match(mistakeOf("{\n  auth: off }\n"), /:2:9: auth: .*took a "}"/);
  assert.equal(
    mistakesOf("allowed_hosts: [\n  a.org,\n  b.org\n]")[0].slice(0, 16),
    "etc/pushd.cf:2: ",
  );
  // A comma or a comment inside a value is part of it.
  assert.equal(load('stats_token: "a,#//"').config.stats_token, "a,#//");
  assert.equal(load("stats_token: a,b#c//d").config.stats_token, "a,b#c//d");
});

Deno.test("loadConfig: a key without a value does not take the next line for it", () => {
  assert.match(
    mistakeOf("session_timeout:\nstats_token: hunter2\n"),
    /:2: session_timeout: no value on line 1/,
  );
  assert.match(mistakeOf("stats_token:"), /:1: stats_token: no value/);
  assert.match(mistakeOf("auth:\n  on\n"), /no value on line 1/);
});

Deno.test("loadConfig: a key given twice is refused, naming both lines", () => {
  assert.match(mistakeOf('auth: off\n"auth": "off"'), /:2: auth: .*line 1 and on line 2/);
  assert.match(
    mistakeOf("sqlite: {\npath: a\n'path': b\n}"),
    /:3: sqlite\.path: .*line 2 and on line 3/,
  );
  assert.match(mistakeOf("sqlite: {}\nsqlite: {}"), /:2: sqlite: .*twice/);
  assert.match(mistakeOf("x: {\na: 1\na: 2\n}"), /:3: x\.a: .*twice/);
  assert.match(mistakeOf('apps: [\n{ id: "a", id: "b", secret: "c" }\n]'), /:2: apps\.id: .*twice/);
  assert.equal(mistakesOf("auth: off\nauth: off\nauth: off").length, 2);
});

Deno.test("loadConfig: an unknown key is a warning with the nearest name", () => {
  const { warnings } = load(
    'auht: "on"\nsqlite: {\n  pfad: "x"\n}\n__proto__: {}\nconstructor: 1\n"a\\nb": 1\n"sqlite.path": "x"\n',
  );
  assert.equal(warnings.length, 6);
  assert.equal(
    warnings[0],
    'etc/pushd.cf:1: auht: unknown key, left out; the nearest known name is "auth"',
  );
  assert.match(warnings[1], /:3: sqlite\.pfad: .*"sqlite\.path"/);
  assert.match(warnings[2], /:5: __proto__: unknown key/);
  assert.match(warnings[3], /:6: constructor: unknown key/);
  assert.match(warnings[4], /:7: "a\\nb": unknown key/);
  assert.match(warnings[5], /:8: sqlite\.path: .*as sqlite: \{ … \}/);
  const app = load('apps: [{ id: "a", secret: "b", sceret: "hunter2" }]').warnings;
  assert.equal(app.length, 1);
  assert.match(app[0], /apps\.sceret: .*"secret"/);
});

Deno.test("loadConfig: keys without effect are reported once, whatever they hold", () => {
  const { warnings } = load("serv_initial_goroutine_num: x, y\nredis_offline: { addr: [] }\n");
  assert.deepEqual(warnings, [
    "etc/pushd.cf:1: serv_initial_goroutine_num: has no effect; it can be taken out",
    "etc/pushd.cf:2: redis_offline: has no effect; it can be taken out",
  ]);
});

Deno.test("loadConfig: wrong durations, sizes, numbers", () => {
  for (
    const text of ["5", "1e3ms", "-1s", "5 s", "1h-3m", "1.5h", "0x5", "true", "null", "[]", "{}"]
  ) {
    assert.match(mistakeOf(`session_timeout: ${text}`), /session_timeout: .*duration/, text);
  }
  for (const text of ["64kb", "1.5MiB", "0x1000", "1e3", "511", "17MiB"]) {
    assert.match(mistakeOf(`max_line_bytes: ${text}`), /max_line_bytes: ".*": .*write /, text);
  }
  for (const text of ["0x10", "1e3", "1.5", "-1", "0", "65536", "many"]) {
    assert.match(mistakeOf(`tcp_backlog: ${text}`), /tcp_backlog: ".*": .*write /, text);
  }
  assert.equal(load("session_timeout: 0").config.session_timeout, 0);
  assert.match(mistakeOf("write_timeout: 0"), /write_timeout: "0": too short/);
  assert.match(mistakeOf("tcp_listen_addr: 2222"), /write ":2222"/);
  assert.match(mistakeOf("tcp_listen_addr: ''"), /not an address/);
});

Deno.test("loadConfig: wrong shapes", () => {
  assert.match(mistakeOf("sqlite: a.db"), /:1: sqlite: "a\.db": not a section; write sqlite: \{/);
  assert.match(mistakeOf("mongodb: hunter2"), /mongodb: \*\*\*: not a section/);
  assert.match(mistakeOf('etc_servers: "a:1"'), /not a list; write \["/);
  assert.match(mistakeOf("etc_servers: [\n  {}\n]"), /:2: etc_servers: item 1: /);
  assert.match(mistakeOf("auth: { a: 1 }"), /auth: expected is "off" or "on", not a section/);
  assert.match(mistakeOf("proxy_protocol: 1"), /"1": write true or false/);
  assert.match(mistakeOf("cluster: true"), /cluster: true: .*quote it/);
});

Deno.test("loadConfig: applications", () => {
  const text = `apps: [
    { id: "a", secret: "x" }
    { id: "a", secret: "y" }
    { id: "default", secret: "x" }
    { id: "b c", secret: "hunter 2" }
    { id: "d" }
    { id: "e", secret: "" }
    "f:hunter2"
  ]`;
  const mistakes = mistakesOf(text);
  assert.deepEqual(mistakes.map((line) => line.replace(/^etc\/pushd\.cf:(\d+): apps: /, "$1 ")), [
    '4 item 3: id: "default": "default" is the application of who never authenticated; write another',
    '5 item 4: id: "b c": a name holds no space and no control character',
    "5 item 4: secret: ***: a secret holds no space and no control character",
    "6 item 5: secret: missing; a secret is needed",
    '7 item 6: secret: "": empty; a secret is needed',
    '8 item 7: ***: not an application; write { id: "chat", secret: "…" }',
  ]);
  const twice = 'apps: [\n{ id: "a", secret: "x" }\n{ id: "a", secret: "y" }\n]';
  assert.equal(
    mistakeOf(twice),
    'etc/pushd.cf:3: apps: item 2: id: "a": given twice; ids are unique',
  );
});

Deno.test("loadConfig: keys that must fit together", () => {
  assert.match(
    mistakeOf("max_line_bytes: 1MiB\nmax_pending_bytes: 64KiB"),
    /:2: max_pending_bytes: "64KiB": less than max_line_bytes.*write 1MiB or more/,
  );
  // Where a key is wrong for itself, nothing is said about it and others.
  assert.equal(mistakesOf("max_line_bytes: 1x\nmax_pending_bytes: 512").length, 1);
  const large = "max_line_bytes: 16MiB\nmax_pending_bytes: 64MiB";
  assert.match(mistakeOf(`${large}\nmsg_storage: mongodb`), /:1: max_line_bytes: .* 15MiB/);
  assert.deepEqual(load(large).warnings, []);
  assert.match(
    mistakeOf('tls_listen_addr: ":2224"'),
    /:1: tls_listen_addr: needs tls_cert and tls_key/,
  );
  assert.match(mistakeOf("tls_cert: a.pem"), /tls_cert: needs tls_key/);
  assert.match(mistakeOf("proxy_protocol: true"), /needs trusted_proxies/);
  assert.match(mistakeOf('prof_listen_addr: ":9021"'), /loopback only; write "127\.0\.0\.1:9021"/);
  assert.match(mistakeOf('web_origins: ["*", "https://a.org"]'), /"\*" is every origin/);
  assert.equal(mistakesOf("s2s_tls_cert: a.pem").length, 1);
});

Deno.test("loadConfig: addresses that others can reach are warned of", () => {
  const warned = (text: string) =>
    load(text).warnings.filter((line) => /others can reach/.test(line));
  assert.equal(warned('tcp_listen_addr: ":2222"').length, 1);
  assert.equal(warned("tcp_listen_addr: 10.0.0.1:2222\nauth: on").length, 0);
  assert.equal(warned("tcp_listen_addr: localhost:2222").length, 0);
  assert.equal(warned('tcp_listen_addr: "[0:0:0:0:0:0:0:1]:2222"').length, 0);
  assert.equal(warned('stats_listen_addr: ":9020"').length, 1);
  assert.equal(warned('stats_listen_addr: ":9020"\nstats_token: x').length, 0);
  assert.match(load("auth: on").warnings[0], /apps is empty/);
});

Deno.test("loadConfig: what is not yet in this version is said once it is set", () => {
  const { config, warnings } = load(
    'msg_storage: "sqlite"\nmsg_retention: 0\ncluster: pushd\nweb_session_ttl: 2h\n',
  );
  assert.deepEqual(warnings, [
    'etc/pushd.cf:4: web_session_ttl: "2h": is not yet in this version: no web door is opened',
  ]);
  assert.equal(config.msg_storage, "sqlite");
  assert.deepEqual(load('msg_storage: ""').warnings, []);
});

Deno.test("loadConfig: what waits on one timer is not longer than a timer can be", () => {
  for (
    const [key, quoted] of [
      ["s2s_replay_timeout", "s2s_replay_timeout: 720h"],
      ["s2s_session_timeout", "s2s_session_timeout: 720h"],
      ["drain_timeout", "drain_timeout: 720h"],
      ["mongodb.conn_timeout", "mongodb: {\n  conn_timeout: 720h\n}"],
    ]
  ) {
    assert.match(mistakeOf(quoted), new RegExp(`${key}: "720h": too long; write 576h or less`));
  }
  assert.equal(load("s2s_replay_timeout: 576h").config.s2s_replay_timeout, 576 * 3_600_000);
});

Deno.test("loadConfig: nodes need a secret where others can reach them, and none on loopback", () => {
  const cluster = 's2s_peers: ["10.0.0.2:2223"]\n';
  const mistake = mistakeOf(
    `tcp_listen_addr: ":2222"\nauth: on\napps: [{ id: "a", secret: "b" }]\n${cluster}`,
  );
  assert.match(mistake, /s2s_secret: is empty, and others can reach ":2223"/);
  assert.match(mistakeOf(`s2s_listen_addr: "10.0.0.1:9"`), /can reach "10.0.0.1:9"/);
  assert.deepEqual(load('s2s_peers: ["127.0.0.1:2233"]').warnings, []);
  assert.deepEqual(load(`s2s_listen_addr: ":9"\ns2s_secret: x`).warnings, []);
  assert.match(
    mistakeOf('s2s_peers: ["localhost:9", "10.0.0.2:9"]'),
    /s2s_secret: is empty, and "10\.0\.0\.2:9" in s2s_peers is not on loopback/,
  );
  assert.deepEqual(
    load(`tcp_listen_addr: "10.0.0.1:2222"\nauth: on\napps: [{ id: "a", secret: "b" }]`).warnings,
    [],
  );
});

Deno.test("loadConfig: secrets are in no mistake and no warning", () => {
  const texts = [
    "s2s_secret: hunter2,",
    "s2s_secret: hunter2 # x",
    "stats_token: [hunter2",
    'stats_token: "hunter2',
    "stats_token: hun:ter2 }\nx: [",
    'stats_token: "hunter2\\x"',
    'stats_token: "a hunter2"',
    "mongodb: {\n  url: http://u:hunter2@host\n}",
    "mongodb: {\n  url: mongodb://u:hunter2/@host\n}",
    'mongodb: {\n  addr: "mongodb://u:hunter2@host:1"\n}',
    "mongodb: {\n  password: [ hunter2 ]\n}",
    "mongodb: { password: hunter2 }",
    "mongodb: {\n  pasword: hunter2\n}\nauth: x",
    "auth: off, s2s_secret: hunter2",
    "auth: off # was hunter2",
    "{ auth: x, stats_token: hunter2 }",
    "session_timeout:\nstats_token: hunter2",
    "apps: [{ id: a, secret: hunter2 }]",
    'apps: [{ id: "a b", secret: "hunter2" }]',
    'apps: { a: "hunter2" }',
    "apps: hunter2",
    "stats_token: true hunter2 x, y: [",
  ];
  for (const text of texts) {
    const result = loadConfig({ path: "f", text });
    const lines = [...(result.ok ? [] : result.mistakes), ...result.warnings].join("\n");
    assert.ok(lines !== "" && !/hunter2|hun|ter2/.test(lines), `${text}\n${lines}`);
  }
  const env = {
    PUSHD_STATS_TOKEN: "a hunter2",
    PUSHD_APPS: "[{id: hunter2",
    PUSHD_S2S_SECRET: "hunter2",
  };
  const result = loadConfig({ path: "f", text: "", env });
  assert.ok(!result.ok);
  assert.ok(!/hunter2/.test(JSON.stringify(result)));
});

Deno.test("loadConfig: never throws, whatever the text", () => {
  const line = fc.tuple(
    fc.constantFrom("auth", "sqlite", "mongodb", "apps", '"etc_servers"', "x", "session_timeout"),
    fc.constantFrom(": ", ":", " ", ": {", ": ["),
    fc.oneof(fc.string(), fc.constantFrom("off", "5s", "}", "]", "{ path: 1 }", "null", "[[1]]")),
  ).map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
      const result = loadConfig({ path: "f", text: lines.join("\n") });
      assert.ok(result.ok || result.mistakes.length > 0);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("loadConfig: large and deep files end soon", () => {
  const startMs = performance.now();
  for (
    const text of [
      "[".repeat(1e6),
      "a:{".repeat(3e5),
      `auth: x${",".repeat(1e6)}`,
      "a: 1\n".repeat(2e4),
    ]
  ) {
    assert.ok(mistakesOf(text).length > 0);
  }
  assert.ok(performance.now() - startMs < 5000);
});

Deno.test("loadConfig: reads files, and says in one line why it cannot", async () => {
  const folder = await Deno.makeTempDir({ prefix: "pushd-config-" });
  try {
    const fault = (name: string) => {
      const result = loadConfig({ path: `${folder}/${name}` });
      if (result.ok) return assert.fail(`${name} was read`);
      assert.equal(result.mistakes.length, 1);
      return result.mistakes[0].replace(`${folder}/`, "");
    };
    await Deno.writeTextFile(`${folder}/good.cf`, "\uFEFFauth: off\r\ntoken_ttl: 5m\r\n");
    const good = loadConfig({ path: `${folder}/good.cf` });
    assert.ok(good.ok && good.config.token_ttl === 300_000 && good.source === `${folder}/good.cf`);
    assert.equal(good.path, `${folder}/good.cf`);
    await Deno.writeFile(
      `${folder}/latin.cf`,
      new Uint8Array([0x61, 0x3a, 0x31, 0x0a, 0xe9, 0x0a]),
    );
    await Deno.writeTextFile(`${folder}/large.cf`, " ".repeat(1024 * 1024 + 1));
    assert.equal(fault("none.cf"), "none.cf: no such file; name one that exists");
    assert.equal(fault("good.cf/x"), "good.cf/x: no such file; name one that exists");
    assert.equal(fault("."), ".: a folder, not a file; name the file in it");
    assert.equal(fault("latin.cf"), "latin.cf:2: not UTF-8; save the file in that encoding");
    assert.equal(fault("large.cf"), "large.cf: larger than 1MiB; no configuration is");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("pathToRead: what was read once is never silently the defaults", () => {
  // Named, or the default file read at the start: it alone, whether or not it is there.
  for (const path of ["/etc/my.cf", DEFAULT_PATH]) {
    for (const isThere of [true, false]) assert.equal(pathToRead(path, () => isThere), path);
  }
  // After a start with the defaults.
  assert.equal(pathToRead(null, () => false), null);
  assert.equal(pathToRead(null, (path) => path === DEFAULT_PATH), DEFAULT_PATH);
});

Deno.test("loadConfig: takes a file of the original", () => {
  const text = Deno.readTextFileSync(
    new URL("../../tests/fixtures/original_pushd.cf", import.meta.url),
  );
  assert.match(mistakeOf(text), /s2s_secret: is empty, and others can reach ":2223"/);
  const { config, warnings } = load(text, { PUSHD_S2S_SECRET: "nodes" });
  assert.equal(config.session_timeout, 120_000);
  assert.equal(config.max_cache_msgs_every_channel, 3000);
  assert.equal(config.mongodb.addr.text, "127.0.0.1:27017");
  assert.equal(config.etc_servers.length, 2);
  const keys = (pattern: RegExp) =>
    warnings.filter((line) => pattern.test(line)).map((line) => line.split(": ")[1]).sort();
  assert.deepEqual(keys(/has no effect/), [
    "redis_offline",
    "s2s_initial_goroutine_num",
    "serv_initial_goroutine_num",
  ]);
  const notYet = keys(/is not yet in this version/);
  assert.ok(notYet.includes("long_polling_listen_addr"));
  assert.equal(warnings.length, 3 + notYet.length);
});
