// The feed of the page, as a client of it reads it.

/** An event and what it says. */
export interface LiveEvent {
  event: string;
  // deno-lint-ignore no-explicit-any -- what a test expects of it, it checks
  data: any;
}

/** The events of an answer until it ends or is cancelled by `return`. */
export async function* liveEvents(
  body: ReadableStream<Uint8Array> | null,
): AsyncGenerator<LiveEvent, void> {
  if (body === null) throw new Error("an answer without a body");
  let text = "";
  for await (const part of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair)) {
    text += part;
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const each of events) {
      const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(each) ?? [];
      if (event === undefined) throw new Error(`not an event: ${each}`);
      yield { event, data: JSON.parse(data) };
    }
  }
}
