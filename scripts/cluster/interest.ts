// What a million channels of interest cost between two nodes: bytes, memory, time, and false positives.
// deno-lint-ignore-file no-console

import { CountingClient } from "./client.ts";
import { type Node, Nodes, residentBytes, until } from "./nodes.ts";

const MiB = 2 ** 20;
const CHUNK = 10_000;
/** Publishes to channels that nobody wants. */
const STRANGERS = 200_000;

/** Measures with a list or with a filter, as `bloomThreshold` says. */
export async function measureInterest(channels: number, bloomThreshold: number): Promise<void> {
  const nodes = await Nodes.open({
    max_channels_per_connection: channels + 1,
    s2s_bloom_threshold: bloomThreshold,
    s2s_channel_peers_max_items: 2 * channels,
  });
  try {
    const wanting = await nodes.start();
    const first = await nodes.start();
    console.log(`${channels} channels, s2s_bloom_threshold ${bloomThreshold}`);
    const client = await CountingClient.connect(wanting.host);
    const beforeBytes = residentBytes(first);
    const subscribeMs = await timed(() => subscribe(client, channels));
    const after = await nodes.stats(first);
    line("subscribed while linked", `${seconds(subscribeMs)} for all, SUBSCRIBED included`);
    line("  over the link", megabytes(after.s2s_bytes_in));
    line("  memory of the other node", megabytes(residentBytes(first) - beforeBytes));
    await nodes.killLast();
    // A new life knows nothing: everything is told at once.
    const startMs = performance.now();
    const second = await nodes.start();
    const linkedMs = performance.now() - startMs;
    const emptyBytes = residentBytes(second);
    await untilKnown(second, client, channels);
    const knownMs = performance.now() - startMs - linkedMs;
    const full = await nodes.stats(second);
    line("told as a whole after a link-up", `${seconds(knownMs)} until the last channel is known`);
    line("  over the link", megabytes(full.s2s_bytes_in));
    line("  memory of the other node", megabytes(residentBytes(second) - emptyBytes));
    line("  memory of the wanting node", `${megabytes(residentBytes(wanting))} in all`);
    await countFalsePositives(nodes, second);
    client.close();
  } finally {
    await nodes.close();
  }
}

async function subscribe(client: CountingClient, channels: number): Promise<void> {
  for (let i = 0; i < channels; i += CHUNK) {
    const count = Math.min(CHUNK, channels - i);
    await client.send(Array.from({ length: count }, (_, k) => `sub room-${i + k}\n`).join(""));
    await client.until(i + count);
  }
}

/** Until a message to the last channel comes over the link. */
async function untilKnown(node: Node, client: CountingClient, channels: number): Promise<void> {
  const publisher = await CountingClient.connect(node.host);
  const { lines } = client;
  await until("the last channel to be known", async () => {
    await publisher.send(`pub room-${channels - 1} x\n`);
    return client.lines > lines;
  });
  publisher.close();
}

async function countFalsePositives(nodes: Nodes, node: Node): Promise<void> {
  const publisher = await CountingClient.connect(node.host);
  const { s2s_forwarded: before } = await nodes.stats(node);
  for (let i = 0; i < STRANGERS; i += CHUNK) {
    const { lines } = publisher;
    await publisher.send(
      Array.from({ length: CHUNK }, (_, k) => `pub stranger-${i + k} x\n`).join(""),
    );
    await publisher.until(lines + CHUNK);
  }
  const forwarded = (await nodes.stats(node)).s2s_forwarded - before;
  const share = (100 * forwarded / STRANGERS).toFixed(3);
  line("forwarded although nobody wants it", `${forwarded} of ${STRANGERS} (${share} %)`);
  publisher.close();
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

function line(what: string, figure: string): void {
  console.log(`  ${what.padEnd(36)} ${figure}`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / MiB).toFixed(1)} MiB`;
}
