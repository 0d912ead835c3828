// The C library's functions for what the runtime has none for: the open-file limit, and systemd.
//
// Only a compiled program may load it (scripts/compile.ts permits its paths and no other library); from
// source, everything here answers null, and what asks does without.

/** Where systems have the C library of a 64-bit program. The permission is for these paths. */
const PATHS = Deno.build.os === "darwin" ? ["/usr/lib/libSystem.B.dylib"] : [
  ...(Deno.build.arch === "aarch64"
    ? ["/lib/aarch64-linux-gnu/libc.so.6"]
    : ["/lib/x86_64-linux-gnu/libc.so.6"]),
  "/lib64/libc.so.6",
  "/usr/lib/libc.so.6",
];

const SYMBOLS = {
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** An open C library; {@link Libc.close} it. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>;

/** Opens it; null where it may not be loaded, or is none of those paths. Asks nobody for a permission. */
export function openLibc(): Libc | null {
  for (const path of PATHS) {
    if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") continue;
    try {
      return Deno.dlopen(path, SYMBOLS);
    } catch {
      // Not on this system, or of another word size.
    }
  }
  return null;
}

/** RLIMIT_NOFILE. */
const FILES = Deno.build.os === "darwin" ? 8 : 7;
/** RLIM_INFINITY. */
const INFINITE = Deno.build.os === "darwin" ? 2n ** 63n - 1n : 2n ** 64n - 1n;
/** What macOS may take where it calls the hard limit infinite (`kern.maxfilesperproc`), largest first. */
const MAC_FILES = [1_048_576n, 491_520n, 245_760n, 122_880n, 61_440n, 10_240n];

/** Limits of open files: the one in force, and up to where a process may raise it. Infinity for none. */
export interface FileLimits {
  soft: number;
  hard: number;
}

/** The limits of this process; null where they are not told. */
export function fileLimits(libc: Libc): FileLimits | null {
  const limits = new BigUint64Array(2);
  if (libc.symbols.getrlimit(FILES, limits) !== 0) return null;
  const [soft, hard] = [...limits].map((value) => value >= INFINITE ? Infinity : Number(value));
  return { soft, hard };
}

/** Raises the soft limit as far as the hard one allows. What cannot be raised stays as it is. */
export function raiseFileLimit(libc: Libc): void {
  const limits = new BigUint64Array(2);
  if (libc.symbols.getrlimit(FILES, limits) !== 0) return;
  const [soft, hard] = limits;
  const wanted = Deno.build.os === "darwin" ? [hard, ...MAC_FILES] : [hard];
  for (const value of wanted) {
    if (value <= soft || value > hard) continue;
    if (libc.symbols.setrlimit(FILES, new BigUint64Array([value, hard])) === 0) return;
  }
}

const AF_UNIX = 1;
/** SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, on Linux. */
const DATAGRAM = 2 | 0o2000000 | 0o4000;
/** Of an address, without the 0 behind it. */
const MAX_PATH_BYTES = 107;

/** Sends one datagram to a unix socket; `@` before the path is Linux's abstract namespace. Linux only. */
export function sendDatagram(libc: Libc, path: string, text: string): boolean {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.length > MAX_PATH_BYTES) return false;
  const isAbstract = name[0] === "@".charCodeAt(0);
  if (isAbstract) name[0] = 0;
  const address = new Uint8Array(2 + name.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const { socket, sendto, close } = libc.symbols;
  const fd = socket(AF_UNIX, DATAGRAM, 0);
  if (fd < 0) return false;
  const bytes = new TextEncoder().encode(text);
  const sent = sendto(fd, bytes, BigInt(bytes.length), 0, address, address.length);
  close(fd);
  return Number(sent) === bytes.length;
}
