// `deno task cluster-figures`: the figures in docs/cluster.md, measured on this machine.
// deno-lint-ignore-file no-console

import { parseArgs } from "node:util";
import { measureGrowth } from "./growth.ts";
import { measureInterest } from "./interest.ts";

const USAGE =
  `deno task cluster-figures [interest] [growth] [--channels N] [--nodes LIST] [--seconds S]

  interest   what so many channels (1000000) cost between two nodes, as a list and as a filter
  growth     messages a second with so many nodes (3,5,10,20), and what they cost on the links`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    channels: { type: "string", default: "1000000" },
    nodes: { type: "string", default: "3,5,10,20" },
    seconds: { type: "string", default: "5" },
    help: { type: "boolean", default: false },
  },
});
const channels = Number(values.channels);
const sizes = values.nodes.split(",").map(Number);
const seconds = Number(values.seconds);
const areGood = [channels, seconds, ...sizes].every((n) => n > 0) &&
  positionals.every((name) => name === "interest" || name === "growth");
if (values.help || !areGood) {
  console.error(USAGE);
  Deno.exit(values.help ? 0 : 2);
}
const wants = (name: "interest" | "growth") =>
  positionals.length === 0 || positionals.includes(name);
if (wants("interest")) {
  await measureInterest(channels, 10 * channels);
  await measureInterest(channels, channels / 10);
}
if (wants("growth")) {
  for (const spread of ["all", "two"] as const) {
    for (const size of sizes) await measureGrowth(size, spread, seconds);
  }
}
