// The counting of test results.

import assert from "node:assert/strict";
import { countTests, exitCode, listFailures } from "./test.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="7" failures="2" errors="0" time="0.007">
    <testsuite name="./a_test.ts" tests="5" disabled="2" errors="0" failures="2">
        <testcase name="steps" classname="./a_test.ts" time="0.001" line="1" col="6">
            <failure message="1 test step failed">1 test step failed.</failure>
        </testcase>
        <testcase name="skipped" classname="./a_test.ts" time="0.000" line="2" col="6">
            <skipped/>
        </testcase>
        <testcase name="steps &gt; a" classname="./a_test.ts" time="0.000" line="1" col="43">
        </testcase>
        <testcase name="steps &gt; b" classname="./a_test.ts" time="0.000" line="1" col="72">
            <skipped/>
        </testcase>
        <testcase name="steps &gt; c" classname="./a_test.ts" time="0.001" line="1" col="119">
            <failure message="Uncaught Error: &lt;/testcase&gt;">Error: x&lt;/testcase&gt;</failure>
        </testcase>
    </testsuite>
    <testsuite name="./b_test.ts" tests="2" disabled="0" errors="0" failures="0">
        <testcase name="steps &gt; a" classname="./b_test.ts" time="0.000" line="1" col="1"/>
        <testcase name="1 &gt; 0" classname="./b_test.ts" time="0.000" line="2" col="1">
        </testcase>
    </testsuite>
</testsuites>`;

Deno.test("countTests: steps belong to their test, a skipped one is counted", () => {
  assert.deepEqual(countTests(REPORT), { passed: 2, failed: 1, skipped: 2 });
  assert.deepEqual(countTests(""), { passed: 0, failed: 0, skipped: 0 });
});

Deno.test("listFailures: tests and steps, where and why, as text", () => {
  assert.deepEqual(listFailures(REPORT), [
    "./a_test.ts: steps\n1 test step failed.",
    "./a_test.ts: steps > c\nError: x</testcase>",
  ]);
  assert.deepEqual(listFailures(""), []);
});

Deno.test("exitCode: a skipped test is a failure where everything is required", () => {
  assert.equal(exitCode(0, { passed: 1, failed: 0, skipped: 1 }, false), 0);
  assert.equal(exitCode(0, { passed: 1, failed: 0, skipped: 1 }, true), 1);
  assert.equal(exitCode(0, { passed: 1, failed: 0, skipped: 0 }, true), 0);
  assert.equal(exitCode(1, { passed: 1, failed: 0, skipped: 0 }, false), 1);
});
