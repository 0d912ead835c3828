// A program in a namespace of the tests' own network, that sends packets and says which have come.

import { strict as assert } from "node:assert";
import { within } from "./harness_within.ts";

/** A program in a namespace that says where packets came from, and sends some where it is told to. */
export class Station implements AsyncDisposable {
  #child: Deno.ChildProcess;
  #heard: ReadableStreamDefaultReader<string>;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  #text = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#heard = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#writer = child.stdin.getWriter();
  }

  static async start(prefix: readonly string[], addr: string): Promise<Station> {
    const [program, ...args] = [
      ...prefix,
      Deno.execPath(),
      ...["run", "--allow-net", "--unstable-net", import.meta.url, addr],
    ];
    const options = { args, stdin: "piped", stdout: "piped", stderr: "inherit" } as const;
    const station = new Station(new Deno.Command(program, options).spawn());
    assert.equal(await station.#line(), "listening");
    return station;
  }

  /** Sends packets to an address; each as long as it is told. */
  async send(addr: string, text: string, count = 1, bytes = 0): Promise<void> {
    await this.#writer.write(
      new TextEncoder().encode(`${JSON.stringify({ addr, text, count, bytes })}\n`),
    );
  }

  /** The next text that arrives. */
  async hear(): Promise<string> {
    return await within(() => "a packet", this.#line());
  }

  async #line(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#heard.read();
      if (done) throw new Error("the station ended");
      this.#text += value;
    }
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
    await this.#heard.cancel();
  }
}

if (import.meta.main) {
  const encoder = new TextEncoder();
  const socket = Deno.listenDatagram({ hostname: Deno.args[0], port: 7000, transport: "udp" });
  const say = (line: string) => Deno.stdout.writeSync(encoder.encode(`${line}\n`));
  say("listening");
  (async () => {
    for await (const [data] of socket) say(new TextDecoder().decode(data).trim());
  })();
  let rest = "";
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const { addr, text, count, bytes } = JSON.parse(line);
      for (let i = 0; i < count; i++) {
        const data = encoder.encode(text.padEnd(bytes));
        // A cable that is pulled is no error of the sender's.
        await socket.send(data, { transport: "udp", hostname: addr, port: 7000 }).catch(() => {});
      }
    }
  }
  socket.close();
}
