// Reads what every node of a fault run shows of the history, page after page, to the end.

import { readMessage } from "./cluster_load.ts";
import { type HistoryLog, Receipts } from "./cluster_log.ts";
import type { ClusterNode } from "./cluster_nodes.ts";
import { Client } from "./harness_client.ts";

/** Stands for a message that nobody has sent. */
const STRANGER = { publisher: 2 ** 32 - 1, n: 0 };

/** An element of the array of `his`, as far as it is looked at. */
interface Shown {
  readonly msg: string;
  readonly ts: number;
  readonly node: string;
}

/** Reads all channels at one node. Throws where the answer is neither history nor PARTIAL. */
export async function readHistory(
  node: ClusterNode,
  index: number,
  channels: readonly string[],
): Promise<HistoryLog> {
  using client = await Client.connect(node.port, node.hostname);
  const receipts = new Receipts();
  const origins: string[] = [];
  const partial = new Set<string>();
  for (const [channel, name] of channels.entries()) {
    for (let from = 0;;) {
      const reply = await client.reply(`his ${name} ${from} 10000`);
      const [, isPartial, json] = /^HISTORY \S+ (PARTIAL )?(\[.*\])$/.exec(reply) ??
        client.fail("his should have been answered with history");
      if (isPartial !== undefined) partial.add(name);
      const page: Shown[] = JSON.parse(json);
      for (const { msg, ts, node: origin } of page) {
        const { publisher, n } = readMessage(msg) ?? STRANGER;
        receipts.add(channel, publisher, n, ts, 0);
        origins.push(origin);
      }
      if (page.length === 0) break;
      from = page[page.length - 1].ts + 1;
    }
  }
  return { node: index, receipts, origins, partial: [...partial] };
}
