// Stands between a store and its MongoDB: sees the commands, and cuts a connection when told to.

import { connect, createServer, type Server, type Socket } from "node:net";
import { Buffer } from "node:buffer";
import { BSON } from "mongodb";

/** A command as the driver sent it; its name is its first key. */
export type Command = Record<string, unknown>;

const OP_MSG = 2013;
const HEADER_BYTES = 16;
/** Behind the header: flags (4) and the kind of the first section (1), which is the command. */
const COMMAND_AT = HEADER_BYTES + 5;

/** Starts a proxy for a server on loopback. */
export async function startMongoProxy(serverPort: number): Promise<MongoProxy> {
  const proxy = new MongoProxy(serverPort);
  await proxy.listen();
  return proxy;
}

export class MongoProxy implements AsyncDisposable {
  /** Every command since the start. */
  readonly commands: Command[] = [];
  /** How many connections have been cut. */
  cuts = 0;

  #server: Server;
  #sockets = new Set<Socket>();
  #cutName: string | undefined;
  #holdName: string | undefined;
  #letPass = () => {};

  /** For {@link startMongoProxy}. */
  constructor(serverPort: number) {
    this.#server = createServer((client) => this.#serve(client, serverPort));
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("it does not listen");
    return `mongodb://127.0.0.1:${address.port}/`;
  }

  /** The next command of this name reaches the server; the connection is cut when it has answered. */
  cutAnswerTo(name: string): void {
    this.#cutName = name;
  }

  /**
   * The next command of this name is kept on its way, also when its sender gives up. What is returned
   * lets it reach the server.
   */
  hold(name: string): () => void {
    this.#holdName = name;
    return () => this.#letPass();
  }

  /** For {@link startMongoProxy}. */
  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", resolve);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(client: Socket, port: number): void {
    const server = connect({ host: "127.0.0.1", port });
    const both = [client, server];
    let isHeld = false;
    const end = () => {
      for (const socket of both) if (socket === client || !isHeld) socket.destroy();
    };
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.on("error", end);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    let isToCut = false;
    let buffer = Buffer.alloc(0);
    client.on("data", (data) => {
      buffer = Buffer.concat([buffer, data]);
      while (buffer.length >= 4 && buffer.length >= buffer.readInt32LE(0)) {
        const length = buffer.readInt32LE(0);
        const name = this.#note(buffer.subarray(0, length));
        if (name !== undefined && name === this.#cutName) {
          this.#cutName = undefined;
          isToCut = true;
        }
        if (name !== undefined && name === this.#holdName) {
          this.#holdName = undefined;
          isHeld = true;
          this.#letPass = () => {
            isHeld = false;
            server.write(data);
          };
        }
        buffer = buffer.subarray(length);
      }
      if (!isHeld) server.write(data);
    });
    server.on("data", (data) => {
      if (!isToCut) return void client.write(data);
      this.cuts++;
      end();
    });
  }

  #note(message: Buffer): string | undefined {
    if (message.readInt32LE(12) !== OP_MSG) return undefined;
    const length = message.readInt32LE(COMMAND_AT);
    const command: Command = BSON.deserialize(message.subarray(COMMAND_AT, COMMAND_AT + length));
    this.commands.push(command);
    return Object.keys(command)[0];
  }
}
