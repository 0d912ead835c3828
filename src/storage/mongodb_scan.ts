// Reads every message in MongoDB, for an export.

import type { ChannelBlock } from "../engine/ports/history_store.ts";
import { type ChannelName, readMark } from "./mongodb_channels.ts";
import type { MongoConnection } from "./mongodb_connection.ts";
import { type ReadMessage, readMessage, toBlocks } from "./mongodb_lines.ts";
import { MESSAGE_ORDER, type MessageDoc, messagesOf } from "./mongodb_schema.ts";

/** Documents that are asked for at once; a server sends at most 16 MiB of them. */
const BATCH = 500;

/**
 * All messages by application, channel, time and node. The server ends it when nobody has asked for
 * more for ten minutes.
 */
export async function* scanMessages(connection: MongoConnection): AsyncGenerator<ChannelBlock> {
  const cursor = await connection.run(({ db }) =>
    Promise.resolve(messagesOf(db).find().sort(MESSAGE_ORDER).batchSize(BATCH))
  );
  let last: (ChannelName & { deletingTs: number }) | undefined;
  try {
    while (await connection.run(() => cursor.hasNext())) {
      for (const { name, docs } of byChannel(cursor.readBufferedDocuments())) {
        if (last?.app !== name.app || last.channel !== name.channel) {
          const mark = await connection.run((attempt) => readMark(attempt, name));
          last = { ...name, deletingTs: mark.deletingTs };
        }
        const { deletingTs } = last;
        const messages = docs.map(readMessage).filter((message): message is ReadMessage =>
          message !== undefined && message.ts > deletingTs
        );
        for (const block of toBlocks(name.channel, messages)) yield { ...block, ...name };
      }
    }
  } finally {
    // Where the server does not answer any more, there is nothing to close.
    await connection.run(() => cursor.close()).catch(() => {});
  }
}

/** Runs of documents of one channel. */
function byChannel(docs: readonly MessageDoc[]): { name: ChannelName; docs: MessageDoc[] }[] {
  const runs: { name: ChannelName; docs: MessageDoc[] }[] = [];
  for (const doc of docs) {
    const run = runs[runs.length - 1];
    if (run?.name.app === doc.app && run.name.channel === doc.channel) run.docs.push(doc);
    else runs.push({ name: { app: doc.app, channel: doc.channel }, docs: [doc] });
  }
  return runs;
}
