// The runtime that the tests run on is none of the old ones.

import assert from "node:assert/strict";
import { oldRuntimeNote } from "./old_runtime.ts";

Deno.test("this runtime is not taken for an old one", () => {
  assert.equal(oldRuntimeNote(), null);
});
