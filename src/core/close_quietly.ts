// Closing what the runtime may have closed already.

/** Closes what may have been closed already. */
export function closeQuietly(closable: { close(): void }): void {
  try {
    closable.close();
  } catch {
    // The runtime has closed it, after an error on the socket.
  }
}
