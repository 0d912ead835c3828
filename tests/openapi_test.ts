// /openapi.json: a document that others can use, of everything there is, and true.

import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import assert from "node:assert/strict";
import { createStatsApp } from "../src/stats/app.ts";
import { LiveFeed } from "../src/stats/live_feed.ts";
import { Client, type Pushd, startPushd } from "./harness.ts";
import { liveSource } from "./live_source.ts";
import { statsDeps } from "./stats_deps.ts";

interface Document {
  paths: Record<string, {
    get: { responses: Record<string, { content: Record<string, { schema: object }> }> };
  }>;
}

async function documentOf(pushd: Pushd): Promise<Document> {
  const response = await pushd.get("/openapi.json");
  assert.equal(response.status, 200);
  return await response.json();
}

Deno.test("/openapi.json is an OpenAPI document that names every path", async () => {
  await using pushd = await startPushd();
  const document = await documentOf(pushd);
  const { valid, errors } = await new Validator().validate(structuredClone({ ...document }));
  assert.ok(valid, JSON.stringify(errors));
  const { routes } = createStatsApp(statsDeps(), new LiveFeed(liveSource()));
  // The page's own files are nothing for programs.
  const paths = routes
    .filter(({ method, path }) => method === "GET" && !path.startsWith("/page/"))
    .map(({ path }) => path);
  assert.deepEqual(Object.keys(document.paths).toSorted(), [...new Set(paths)].toSorted());
});

Deno.test("/openapi.json describes every JSON answer as it is", async () => {
  await using pushd = await startPushd({
    config: { auth: "on", apps: [{ id: "chat", secret: "s" }] },
  });
  using server = await Client.connect(pushd.port);
  await server.ask("auth_server chat s", "AUTHENTICATED chat");
  await server.ask("pub c hello", /^PUBLISHED/);
  {
    using gone = await Client.connect(pushd.port);
    await gone.ask("quit", "BYE");
    await gone.eof();
  }
  await pushd.untilStat("connections", 1);

  const ajv = addFormats.default(new Ajv2020({ allErrors: true, strict: true }));
  let checked = 0;
  for (const [path, { get }] of Object.entries((await documentOf(pushd)).paths)) {
    const schema = get.responses[200].content["application/json"]?.schema;
    if (schema === undefined) continue;
    const answer = await (await pushd.get(path)).json();
    const isRight = ajv.compile(schema);
    assert.ok(isRight(answer), `${path}: ${ajv.errorsText(isRight.errors)}`);
    if (Array.isArray(answer)) assert.ok(answer.length > 0, `${path} has something to check`);
    assert.ok(!isRight("something else"), `${path} takes anything`);
    checked++;
  }
  assert.ok(checked >= 11, `${checked} answers`);

  const refusal = await pushd.get("/s/channels?limit=0");
  const { components } = await documentOf(pushd) as unknown as {
    components: { schemas: { Error: object } };
  };
  assert.ok(ajv.validate(components.schemas.Error, await refusal.json()));
});
