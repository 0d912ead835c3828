// What a test needs from the machine: present, or the reason why the test is skipped, or a failure.

import { delimiter } from "node:path";

/** The programs tests use, and the Debian package each is in. */
const PACKAGES = {
  chromium: "chromium",
  chroot: "coreutils",
  curl: "curl",
  expect: "expect",
  faketime: "faketime",
  gcc: "gcc libc6-dev",
  ip: "iproute2",
  ldd: "libc-bin",
  "nats-server": "nats-server",
  openssl: "openssl",
  nc: "netcat-openbsd",
  nsenter: "util-linux",
  prlimit: "util-linux",
  promtool: "prometheus",
  ps: "procps",
  "redis-server": "redis-server",
  script: "bsdutils",
  ss: "iproute2",
  strace: "strace",
  telnet: "telnet",
  unshare: "util-linux",
} as const;

/** A program that {@linkcode requireTool} knows. */
export type Tool = keyof typeof PACKAGES;

/** The answer of {@linkcode requireTool}, for a test definition. */
export interface Requirement {
  /** Whether the test is to be skipped. */
  readonly ignore: boolean;
  /** To be put behind the test's name: empty, or ` (telnet is missing: apt-get install telnet)`. */
  readonly reason: string;
}

/** Where a system keeps programs, also where PATH leaves out those for root. */
const DIRECTORIES = [
  ...(Deno.env.get("PATH") ?? "").split(delimiter).filter((dir) => dir !== ""),
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
];

/** The path of a program, or null when it is not installed. */
export function findTool(
  name: string,
  directories: readonly string[] = DIRECTORIES,
): string | null {
  for (const dir of directories) {
    try {
      const { isFile, mode } = Deno.statSync(`${dir}/${name}`);
      if (isFile && (mode === null || (mode & 0o111) !== 0)) return `${dir}/${name}`;
    } catch {
      // Not here.
    }
  }
  return null;
}

/**
 * Says whether a test that needs these programs can run here:
 *
 *     const telnet = requireTool("telnet", "expect");
 *     Deno.test({ name: `a person at telnet${telnet.reason}`, ignore: telnet.ignore, fn });
 *
 * Where one is missing the test is skipped with the reason in its name; with PUSHD_TEST_REQUIRE=all a
 * failing test takes its place, so that a machine meant to run everything cannot leave something out.
 */
export function requireTool(...names: Tool[]): Requirement {
  const missing = names.filter((name) => findTool(name) === null);
  if (missing.length === 0) return { ignore: false, reason: "" };
  const verb = missing.length === 1 ? "is" : "are";
  const packages = missing.map((name) => PACKAGES[name]).join(" ");
  const reason = `${missing.join(", ")} ${verb} missing: apt-get install ${packages}`;
  if (Deno.env.get("PUSHD_TEST_REQUIRE") === "all") {
    Deno.test(reason, () => {
      throw new Error(reason);
    });
  }
  return { ignore: true, reason: ` (${reason})` };
}
