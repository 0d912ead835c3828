// Reads a channel's whole history as a client would: page after page of `his`.

import { Client } from "./harness.ts";

/** A message as `his` shows it. */
export interface KeptMessage {
  channel: string;
  ts: number;
  msg: string;
  from?: string;
  node?: string;
}

/** Every kept message from a timestamp on, in the order of the pages; fails on PARTIAL and errors. */
export async function readHistory(
  client: Client,
  channel: string,
  fromTs = 0,
): Promise<KeptMessage[]> {
  const all: KeptMessage[] = [];
  for (let from = fromTs;;) {
    const reply = await client.reply(`his ${channel} ${from} 10000`);
    const head = `HISTORY ${channel} `;
    if (!reply.startsWith(`${head}[`)) client.fail("his should have answered with a whole page");
    const page: KeptMessage[] = JSON.parse(reply.slice(head.length));
    if (page.length === 0) return all;
    for (const message of page) all.push(message);
    from = page[page.length - 1].ts + 1;
  }
}
