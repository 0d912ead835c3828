// Reads a configuration file as text.

/** Larger files are no configuration, in bytes. */
const MAX_FILE_BYTES = 1024 * 1024;

/** A file that cannot be taken; the message says why and does not name it. */
export class FileFault extends Error {
  override name = "FileFault";
  constructor(message: string, readonly line: number | null = null) {
    super(message);
  }
}

/** Whether something is at `path`, whatever it is and whether or not it can be read. */
export function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory);
  }
}

/** The text of the file, which must be UTF-8, a BOM taken away. Throws a {@link FileFault}. */
export function readConfigFile(path: string): string {
  const bytes = readBytes(path);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  // No byte of a longer UTF-8 sequence is a line feed, so lines can be tried one by one.
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const feed = bytes.indexOf(0x0a, start);
    const end = feed === -1 ? bytes.length : feed;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      break;
    }
    start = end + 1;
  }
  throw new FileFault("not UTF-8; save the file in that encoding", line);
}

function readBytes(path: string): Uint8Array {
  try {
    if (Deno.statSync(path).isDirectory) {
      throw new FileFault("a folder, not a file; name the file in it");
    }
    using file = Deno.openSync(path, { read: true });
    const bytes = new Uint8Array(MAX_FILE_BYTES + 1);
    let length = 0;
    // Its size is not asked for: a pipe has none.
    for (;;) {
      const read = file.readSync(bytes.subarray(length));
      if (read === null) return bytes.subarray(0, length);
      length += read;
      if (length > MAX_FILE_BYTES) throw new FileFault("larger than 1MiB; no configuration is");
    }
  } catch (error) {
    if (error instanceof FileFault || !(error instanceof Error)) throw error;
    throw new FileFault(reason(error));
  }
}

function reason(error: Error): string {
  if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
    return "no such file; name one that exists";
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return "cannot be read: permission denied; make it readable for the user that runs pushd";
  }
  return `cannot be read: ${error.message}`;
}
