// How a client command fails: with a sentence for the person who called it.

/** The command cannot do what it was called for; the message says why. */
export class ClientError extends Error {
  override readonly name: string = "ClientError";
}

/** A connection has ended, or could not be made; another one may work. */
export class ConnectionLost extends ClientError {
  override readonly name = "ConnectionLost";
}

/** Nobody takes what the command prints any more, as behind `| head`: it is done. */
export class OutputClosed extends ClientError {
  override readonly name = "OutputClosed";
}
