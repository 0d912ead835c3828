// Creates the stream that JetStream keeps messages in, over NATS' plain protocol.

/** The server refused, or said nothing. */
export class StreamError extends Error {
  override readonly name = "StreamError";
}

/** How long the server may take, ms. */
const ANSWER_MS = 5000;

/** One stream in a file for every `c.*`; `PubAck`s then come once the message is in it. */
export async function createStream(port: number): Promise<void> {
  const config = JSON.stringify({
    name: "c",
    subjects: ["c.*"],
    storage: "file",
    retention: "limits",
    num_replicas: 1,
  });
  const size = new TextEncoder().encode(config).length;
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const timer = setTimeout(() => conn.close(), ANSWER_MS);
  try {
    const lines = `CONNECT {"verbose":false}\r\nSUB _INBOX.create 1\r\n` +
      `PUB $JS.API.STREAM.CREATE.c _INBOX.create ${size}\r\n${config}\r\n`;
    await conn.write(new TextEncoder().encode(lines));
    const answer = await readAnswer(conn);
    if (answer.includes('"error"')) throw new StreamError(`JetStream refused a stream: ${answer}`);
  } finally {
    clearTimeout(timer);
  }
}

async function readAnswer(conn: Deno.Conn): Promise<string> {
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(16384);
  let text = "";
  while (true) {
    const answer = /^MSG _INBOX\.create 1 \d+\r\n(.+)\r\n/m.exec(text);
    if (answer !== null) return answer[1];
    const count = await conn.read(bytes).catch(() => null);
    if (count === null) throw new StreamError(`JetStream did not answer, but: ${text.slice(-500)}`);
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
  }
}
