// What keeps the server from starting.

/** The message is for the person who starts it, and names the key of the configuration. */
export class StartError extends Error {
  override readonly name = "StartError";
}
