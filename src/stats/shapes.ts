// The JSON answers of the stats door, described once: for readers, for types, and for /openapi.json.

import * as z from "zod";

const count = (description: string) => z.int().nonnegative().describe(description);
const amount = (description: string) => z.number().nonnegative().describe(description);
const moment = (description: string) => z.iso.datetime().describe(description);

/** Microseconds since the Unix epoch. */
const timestamp = (description: string) =>
  count(`${description}, microseconds since the Unix epoch`);

export const StatusAnswer = z.strictObject({ status: z.literal("ok") });

export const ErrorAnswer = z.strictObject({
  error: z.strictObject({
    code: z.string().describe("A word that does not change, as `bad-argument`"),
    message: z.string().describe("A sentence for a person"),
  }),
});

/** What can be wrong with a server. The first two make it not ready. */
export const FAILINGS = ["storage", "draining", "etc", "s2s"] as const;

export const ReadyAnswer = z.strictObject({
  ready: z.boolean(),
  failing: z.array(z.enum(FAILINGS)).describe(
    "What is wrong: `storage` and `draining` make it not ready, `etc` (ZooKeeper) and `s2s` do not",
  ),
});
export type ReadyAnswer = z.infer<typeof ReadyAnswer>;

export const StatAnswer = z.strictObject({
  ver: z.string(),
  build: z.string().describe("What was built: a commit, or `dev`"),
  node: z.string().describe("The `node_id`"),
  uptime_s: amount("Seconds since the start"),
  stats: z.object({
    connections: count("Open connections, every door together"),
    pubsub_channel_count: count("Channels with a subscriber here or kept messages"),
    s2s_channel_count: count("Channels somebody subscribed to on other nodes"),
    subscriptions: count("Subscriptions of open connections"),
    published: count("Messages accepted from clients here, since the start"),
    delivered: count("Messages queued to subscribers here, since the start"),
    slow_consumers: count("Connections cut off because they did not read, since the start"),
  }).catchall(z.number()).describe("Counters; further ones may be added"),
  conf: z.record(z.string(), z.unknown()).describe(
    "The configuration as in the file, defaults filled in, secrets as `***`",
  ),
});
export type StatAnswer = z.infer<typeof StatAnswer>;

const lag = {
  lag_ms: amount("How late the last timer was"),
  lag_max_15s_ms: amount("The most in the last 15 seconds"),
};

export const SysAnswer = z.strictObject({
  memory: z.strictObject({
    resident_bytes: count("Resident memory"),
    heap_total_bytes: count("The heap of JavaScript"),
    heap_used_bytes: count("What is used of it"),
    external_bytes: count("Buffers outside of it"),
    resident_most_bytes: count("The most resident memory since the start").nullable(),
  }),
  rusage: z.strictObject({
    user_s: amount("Processor time in the program"),
    system_s: amount("Processor time in the kernel"),
    minor_page_faults: count("Without reading from a disk").nullable(),
    major_page_faults: count("With reading from a disk").nullable(),
    voluntary_context_switches: count("It had to wait").nullable(),
    involuntary_context_switches: count("It was made to wait").nullable(),
    block_reads: count("Blocks read from disks").nullable(),
    block_writes: count("Blocks written to disks").nullable(),
  }),
  event_loop: z.strictObject(lag),
  files: z.strictObject({
    open: count("Files that are open; null where the process may not know").nullable(),
    clients: count("Files that clients hold"),
    limit: count("Files that the process may have open; null for no limit").nullable(),
  }),
  started_at: moment("When the process was started"),
  pid: count("The process"),
  versions: z.strictObject({
    pushd: z.string(),
    deno: z.string(),
    v8: z.string(),
    typescript: z.string(),
  }),
  platform: z.string().describe("System and processor, as `linux x86_64`"),
});
export type SysAnswer = z.infer<typeof SysAnswer>;

export const TraceAnswer = z.strictObject({
  tasks: z.array(z.strictObject({
    name: z.string(),
    count: count("How many of them are running"),
    oldest_at: moment("When the one that has been running longest began"),
    newest_at: moment("When the last one began"),
  })).describe("Work under supervision, by name"),
  resources: z.record(z.string(), count("How many")).describe(
    "What there is, and what the event loop waits for, by kind",
  ),
  pending: z.record(z.string(), count("How much")).describe(
    "What is under way: bytes and messages that wait for somebody",
  ),
  event_loop: z.strictObject({
    ...lag,
    stalls: z.array(z.strictObject({
      at: moment("When it began"),
      ms: amount("How long it lasted"),
      cpu_ms: amount(
        "Processor time meanwhile: much less where the process or the machine was stopped",
      ),
      turns: count("Turns of clients' work that ended meanwhile; none in one piece of work"),
    })).describe("When the event loop stood still: the longest of the last hour first"),
  }),
});
export type TraceAnswer = z.infer<typeof TraceAnswer>;

export const ChannelsAnswer = z.array(z.strictObject({
  channel: z.string(),
  app: z.string().describe("The application that it belongs to"),
  subscribers: count("Subscribers on this node"),
  published: count("Messages accepted here"),
  last_ts: timestamp("The newest message (0 before the first)"),
})).describe("Those with the most subscribers first");
export type ChannelsAnswer = z.infer<typeof ChannelsAnswer>;

const connection = {
  id: count("Its number on this node"),
  address: z.string().describe("Where the client is, without the port"),
  user: z.string().nullable().describe("Who it is, once it has said so"),
  app: z.string().describe("The application that it belongs to"),
  channels: count("Channels it is subscribed to"),
  pending: count("Bytes that wait, or waited at the end, to be written"),
  bytes_in: count("Bytes that came"),
  bytes_out: count("Bytes that it took"),
  connected_s: amount("Seconds since it came, or from its coming to its end"),
};

export const ConnectionsAnswer = z.array(z.strictObject({
  ...connection,
  idle_s: amount("Seconds since it sent something"),
})).describe("Those with the most of what they are sorted by first");
export type ConnectionsAnswer = z.infer<typeof ConnectionsAnswer>;

export const ClosedAnswer = z.array(z.strictObject({
  ...connection,
  reason: z.string().describe("Why it ended, as `slow-consumer`"),
  closed_at: moment("When it ended"),
})).describe("The last one first");
export type ClosedAnswer = z.infer<typeof ClosedAnswer>;

export const NodesAnswer = z.strictObject({
  node: z.string().describe("The `node_id` of this node"),
  cluster: z.string().nullable().describe("Its cluster; null where it stands alone"),
  nodes: z.array(z.strictObject({
    id: z.string().nullable().describe("Null while only its address is known"),
    self: z.boolean(),
    state: z.enum(["up", "connecting", "down"]),
    s2s_addr: z.string().nullable().describe("Where other nodes reach it"),
    client_addr: z.string().nullable().describe("Where clients reach it"),
    version: z.string().nullable(),
    since: moment("Since when it is in this state").nullable(),
    rtt_ms: amount("There and back over the link").nullable(),
    skew_ms: z.number().nullable().describe("Its wall clock less ours"),
    replay_bytes: count("Bytes that wait for it, or for its acknowledgement"),
    lost: count("Messages that it will not get any more"),
  })),
});
export type NodesAnswer = z.infer<typeof NodesAnswer>;
