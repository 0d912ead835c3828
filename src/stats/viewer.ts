// One who watches: a stream of events with a bound on what waits to be read.

const encoder = new TextEncoder();

/** An event of Server-Sent Events; `data` becomes JSON, which has no line ends in it. */
export function eventBytes(event: string, data: unknown): Uint8Array<ArrayBuffer> {
  return encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** What {@linkcode Viewer} takes. */
export interface ViewerOptions {
  /** What may wait to be read; with more the viewer is cut off. */
  readonly maxWaitingBytes: number;
  /** The token that was in force when it came. */
  readonly token: string;
  /** Ends its connection at once; without it the stream fails. */
  readonly cutOff?: () => void;
  /** Called once, when it has gone, was ended, or cut off. */
  readonly onGone: (viewer: Viewer) => void;
}

/** One open stream. */
export class Viewer {
  readonly token: string;
  /** What it is sent, for the body of an answer. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;

  #options: ViewerOptions;
  #controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | null = null;

  constructor(options: ViewerOptions) {
    this.#options = options;
    this.token = options.token;
    this.body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => this.#gone(),
    }, { highWaterMark: options.maxWaitingBytes, size: (bytes) => bytes.length });
  }

  /**
   * Queues bytes, which others may be sent, too. Where something waits already, and too much with them,
   * the viewer is cut off.
   */
  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#controller === null) return;
    const room = this.#controller.desiredSize ?? 0;
    if (bytes.length <= room || room === this.#options.maxWaitingBytes) {
      this.#controller.enqueue(bytes);
    } else {
      this.#cut();
    }
  }

  /** Ends it in order, behind what waits. */
  end(): void {
    const controller = this.#controller;
    this.#gone();
    controller?.close();
  }

  #cut(): void {
    const controller = this.#controller;
    this.#gone();
    if (this.#options.cutOff !== undefined) this.#options.cutOff();
    else controller?.error(new Error("the viewer does not read"));
  }

  #gone(): void {
    if (this.#controller === null) return;
    this.#controller = null;
    this.#options.onGone(this);
  }
}
