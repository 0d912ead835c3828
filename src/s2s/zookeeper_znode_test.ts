import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeUtf8 } from "../proto/bytes.ts";
import { pathElement, readZnode, writeZnode, ZnodeFault } from "./zookeeper_znode.ts";

const INFO = {
  id: "a",
  incarnation: "1764000000000000",
  s2sAddr: "10.0.0.1:2223",
  clientAddr: "10.0.0.1:2222",
  version: "0.1.0",
};

Deno.test("znode: a name is one element of a path, and can be read back", () => {
  for (
    const [name, element] of [
      ["node1.example.org:2222", "node1.example.org:2222"],
      ["a b", "a b"],
      ["ü", "ü"],
      ["a/b", "a%2Fb"],
      ["50%", "50%25"],
      [".", "%2E"],
      ["..", "%2E%2E"],
      ["...", "..."],
      ["a\n\x7f", "a%0A%7F"],
      ["\u{1f600}", "%F0%9F%98%80"],
      ["\uf000", "%EF%80%80"],
    ]
  ) {
    assert.equal(pathElement(name), element);
    assert.equal(decodeURIComponent(element), name);
  }
  fc.assert(fc.property(fc.string({ unit: "binary", minLength: 1 }), (name) => {
    const element = pathElement(name);
    assert.equal(decodeURIComponent(element), name);
    assert.ok(!element.includes("/") && element !== "." && element !== "..");
    // What ZooKeeper's PathUtils refuses.
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(element, /[\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]/);
  }));
});

Deno.test("znode: what is written can be read", () => {
  for (const s2sAddr of ["10.0.0.1:2223", "[fd00::1]:2223", "node-1.example.org.:1", "h_1:65535"]) {
    const info = { ...INFO, id: "a/ü", s2sAddr };
    assert.deepEqual(readZnode(pathElement(info.id), writeZnode(info)), info);
  }
});

Deno.test("znode: what no node writes is refused, and the reason is given", () => {
  const json = {
    id: "a",
    incarnation: "1",
    s2s_addr: "10.0.0.1:2223",
    client_addr: "",
    version: "0",
  };
  assert.equal(readZnode("a", encodeUtf8(JSON.stringify({ ...json, more: 1 }))).id, "a");
  const bad: [string | Uint8Array, RegExp][] = [
    ["", /empty/],
    ["{", /not JSON/],
    [Uint8Array.of(0x22, 0xff, 0x22), /not JSON/],
    [`${"x".repeat(70_000)}`, /70000 bytes/],
    ["null", /object/],
    ["{}", /"id"/],
    [JSON.stringify({ ...json, id: "b" }), /belongs elsewhere/],
    [JSON.stringify({ ...json, id: "x".repeat(256) }), /"id"/],
    [JSON.stringify({ ...json, incarnation: 1 }), /"incarnation"/],
  ];
  for (
    const addr of [
      "",
      "10.0.0.1",
      "10.0.0.1:",
      "10.0.0.1:0",
      "10.0.0.1:65536",
      "0.0.0.0:2223",
      "[::]:2223",
      "[0:0:0:0:0:0:0:0]:2223",
      "[fe80::1%eth0]:2223",
      "::1:2223",
      "300.0.0.1:2223",
      "1:2223",
      "0x7f:2223",
      ":2223",
      "-a:2223",
      "a b:2223",
      "http://10.0.0.1:2223",
      "a/b:2223",
      `${"a".repeat(300)}:1`,
    ]
  ) bad.push([JSON.stringify({ ...json, s2s_addr: addr }), /"s2s_addr"/]);
  for (const [data, reason] of bad) {
    const bytes = typeof data === "string" ? encodeUtf8(data) : data;
    const what = String(data).slice(0, 200);
    assert.throws(() => readZnode("a", bytes), (error) => {
      assert.ok(error instanceof ZnodeFault, what);
      assert.match(error.message, reason, what);
      return true;
    });
  }
});
