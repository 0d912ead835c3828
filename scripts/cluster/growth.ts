// How a cluster grows on one machine: messages a second, and bytes on links for each published message.
// deno-lint-ignore-file no-console

import { CountingClient } from "./client.ts";
import { type Node, Nodes } from "./nodes.ts";

const MESSAGE = "x".repeat(64);
const CHUNK = 500;
/** Messages of one publisher that are on their way at most. */
const WINDOW = 2000;

/** On how many nodes, out of all, a channel has a subscriber. */
export type Spread = "all" | "two";

interface Load {
  readonly publishers: CountingClient[];
  readonly subscribers: CountingClient[];
}

/** Measures one size; one publisher on each node, to a channel of its own. */
export async function measureGrowth(count: number, spread: Spread, seconds: number): Promise<void> {
  const nodes = await Nodes.open();
  try {
    for (let i = 0; i < count; i++) await nodes.start();
    const load = await connect(nodes.nodes, spread);
    const stop = new AbortController();
    const publishing = load.publishers.map((client, i) => publish(client, i, stop.signal));
    await pause(1000);
    const names = ["published", "delivered", "s2s_bytes_out", "s2s_forwarded"] as const;
    const before = await Promise.all(names.map((name) => nodes.sum(name)));
    const startMs = performance.now();
    await pause(1000 * seconds);
    const after = await Promise.all(names.map((name) => nodes.sum(name)));
    const tookS = (performance.now() - startMs) / 1000;
    const [published, delivered, bytes, forwarded] = after.map((value, i) => value - before[i]);
    stop.abort();
    await Promise.all(publishing);
    console.log(
      [
        `${count} nodes`.padEnd(9),
        `subscribers on ${spread}`.padEnd(19),
        `${Math.round(published / tookS)} published/s`.padEnd(20),
        `${Math.round(delivered / tookS)} delivered/s`.padEnd(21),
        `${(bytes / published).toFixed(1)} B on links`.padEnd(19),
        `${(forwarded / published).toFixed(2)} forwards each`,
      ].join(" "),
    );
    for (const client of [...load.publishers, ...load.subscribers]) client.close();
  } finally {
    await nodes.close();
  }
}

async function connect(nodes: readonly Node[], spread: Spread): Promise<Load> {
  const publishers = await Promise.all(nodes.map(({ host }) => CountingClient.connect(host)));
  const subscribers = await Promise.all(nodes.map(async ({ host }, i) => {
    const client = await CountingClient.connect(host);
    const channels = spread === "all" ? nodes.map((_, k) => k) : [i, (i + 1) % nodes.length];
    for (const channel of new Set(channels)) await client.send(`sub growth-${channel}\n`);
    await client.until(new Set(channels).size);
    return client;
  }));
  return { publishers, subscribers };
}

async function publish(client: CountingClient, channel: number, stop: AbortSignal): Promise<void> {
  const chunk = `pub growth-${channel} ${MESSAGE}\n`.repeat(CHUNK);
  for (let sent = 0; !stop.aborted; sent += CHUNK) {
    await client.until(sent - WINDOW);
    await client.send(chunk);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
