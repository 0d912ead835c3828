// The compiled program in PUSHD_BIN, where it has nothing but itself. From source there is nothing to test.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { Client, type Pushd, pushdEnv, startPushd, within } from "./harness.ts";
import { openTelnet } from "./harness_terminal.ts";
import { replay } from "./harness_transcript.ts";
import { requireTool } from "./require.ts";
import { firstMinute } from "./walkthrough.ts";

const BINARY = Deno.env.get("PUSHD_BIN") ?? "";

if (BINARY !== "") {
  Deno.test("binary: --version and /s/stat name the commit", async () => {
    const { stdout } = await new Deno.Command(BINARY, { args: ["--version"] }).output();
    const [, build] =
      /^pushd \S+ \((\w+(?:-dirty)?), Deno /.exec(new TextDecoder().decode(stdout)) ??
        assert.fail(new TextDecoder().decode(stdout));
    assert.notEqual(build, "dev");
    await using pushd = await startPushd();
    assert.equal((await pushd.stat()).build, build);
  });

  const prlimit = requireTool("prlimit");
  Deno.test({
    name: `binary: raises its open-file limit as far as it may${prlimit.reason}`,
    ignore: prlimit.ignore,
    fn: async () => {
      await using pushd = await startPushd({ prefix: ["prlimit", "--nofile=256:4096"] });
      await pushd.waitForLog(/open-file limit 4096, raised from 256/);
      const clients: Client[] = [];
      try {
        for (let i = 0; i < 300; i++) clients.push(await Client.connect(pushd.port));
        await Promise.all(clients.map((client) => client.ask("ping", "PONG")));
      } finally {
        for (const client of clients) client.close();
      }
    },
  });

  Deno.test("binary: needs no environment, and no folder for temporary files", async () => {
    for (const prefix of [["/usr/bin/env", "-i"], ["/usr/bin/env", "TMPDIR=/nowhere"]]) {
      await using pushd = await startPushd({ prefix });
      using client = await Client.connect(pushd.port);
      assert.match(await client.reply("pub c hello"), /^PUBLISHED /);
      await runTool(
        [...prefix, BINARY],
        "pub",
        "c",
        "again",
        "--server",
        `127.0.0.1:${pushd.port}`,
      );
    }
  });

  Deno.test("binary: runs by a symbolic link, from another folder", async () => {
    const folder = await Deno.makeTempDir({ prefix: "pushd-link-" });
    try {
      await Deno.symlink(BINARY, `${folder}/somewhere`);
      // What is called is the link, in the place of the program.
      const prefix = ["/bin/sh", "-c", `exec "${folder}/somewhere" "$@"`];
      await using pushd = await startPushd({ prefix, cwd: "/" });
      await runTool(
        [`${folder}/somewhere`],
        "pub",
        "c",
        "x",
        "--server",
        `127.0.0.1:${pushd.port}`,
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  const isRoot = Deno.build.os === "linux" && Deno.uid() === 0;
  const spaces = requireTool("ip", "nsenter", "unshare");
  Deno.test({
    name:
      `binary: without a network, with nowhere to write, and with TMPDIR full it works or says why not${
        isRoot ? spaces.reason : " (takes root on Linux)"
      }`,
    ignore: spaces.ignore || !isRoot,
    fn: async () => {
      {
        await using pushd = await startPushd({ prefix: inside("ip link set lo up", "--net") });
        const enter = ["nsenter", `--net=/proc/${pushd.pid}/ns/net`, BINARY];
        await runTool(enter, "pub", "c", "hello", "--server", `127.0.0.1:${pushd.port}`);
      }
      {
        // Not even a loopback.
        await using pushd = await startPushd({ prefix: inside("true", "--net") });
        assert.match(pushd.log(), /WARN .*no loopback connection/);
      }
      const readOnly = inside("mount -t tmpfs -o ro none /mnt && cd /mnt", "--mount");
      await assert.rejects(
        startPushd({ prefix: readOnly, config: { sqlite: { path: "/mnt/pushd.db" } } }),
        /\npushd: sqlite\.path: .*\/mnt\/pushd\.db: it cannot be opened: .*Read-only file system/,
      );
      const full =
        "mount -t tmpfs -o size=4k none /mnt && ! head -c 9999 /dev/zero >/mnt/x 2>/dev/null";
      for (
        const prefix of [readOnly, inside(`${full} && export TMPDIR=/mnt`, "--mount")]
      ) {
        await using pushd = await startPushd({ prefix, config: { msg_storage: "memory" } });
        using client = await Client.connect(pushd.port);
        assert.match(await client.reply("pub c hello"), /^PUBLISHED /);
      }
    },
  });

  const tools = requireTool("unshare", "chroot", "ldd", "telnet", "expect");
  Deno.test({
    name:
      `binary: in a root with nothing but glibc it serves README's minute, measures, remembers and links${
        isRoot ? tools.reason : " (takes root on Linux)"
      }`,
    ignore: tools.ignore || !isRoot,
    fn: async () => {
      await using one = await EmptyRoot.create();
      await using two = await EmptyRoot.create();
      const alone = { sqlite: { path: "/pushd.db" }, node_id: "myhost:2222" };
      {
        await using first = await one.start(alone);
        await replay(await firstMinute(), { servers: [first], open: openTelnet });
        const bench = await one.run("bench", "--seconds=1", `--server=127.0.0.1:${first.port}`);
        assert.match(bench, /\blost +0\n/);
      }
      const [s2sOne, s2sTwo] = [getAvailablePort(), getAvailablePort()];
      const linked = (own: number, other: number) => ({
        ...alone,
        node_id: `node-${own}`,
        s2s_listen_addr: `127.0.0.1:${own}`,
        s2s_peers: [`127.0.0.1:${other}`],
      });
      await using again = await one.start(linked(s2sOne, s2sTwo));
      using kept = await Client.connect(again.port);
      assert.match(await kept.reply("his channel1 0"), /"msg":"hello"/);
      await using peer = await two.start(linked(s2sTwo, s2sOne));
      await untilLinked(peer);
      using far = await Client.connect(peer.port);
      await far.ask("sub channel2", "SUBSCRIBED channel2");
      assert.match(await kept.reply("pub channel2 across"), /^PUBLISHED /);
      assert.match(await far.line(), /^MESSAGE channel2 \d{16} across$/);
    },
  });
}

/** A prefix that starts the program where `setUp` has been run in name spaces of its own. */
function inside(setUp: string, ...spaces: string[]): string[] {
  return ["unshare", ...spaces, "/bin/sh", "-c", `${setUp} && exec "$0" "$@"`];
}

/** Runs a command of the program to its end, which has to be a good one; returns what it printed. */
async function runTool(program: readonly string[], ...args: string[]): Promise<string> {
  const [first, ...words] = program;
  const { code, stdout, stderr } = await new Deno.Command(first, {
    args: [...words, ...args],
    cwd: "/",
    clearEnv: true,
    env: pushdEnv(),
  }).output();
  const decoder = new TextDecoder();
  assert.equal(code, 0, decoder.decode(stderr));
  return decoder.decode(stdout);
}

/** Polls `/s/nodes` until the other node is up. */
async function untilLinked(pushd: Pushd): Promise<void> {
  let last: { self: boolean; state: string }[] = [];
  let isLate = false;
  const polling = (async () => {
    while (!isLate && !last.some(({ self, state }) => !self && state === "up")) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      last = (await (await pushd.get("/s/nodes")).json()).nodes;
    }
  })();
  await within(() => `a link; there is ${JSON.stringify(last)}`, polling, {
    onLate: () => isLate = true,
  });
}

/** A folder with the program, the libraries that it is linked to and /proc, to be a process's root. */
class EmptyRoot implements AsyncDisposable {
  private constructor(readonly folder: string) {}

  static async create(): Promise<EmptyRoot> {
    const folder = await Deno.makeTempDir({ prefix: "pushd-root-" });
    const { stdout } = await new Deno.Command("ldd", { args: [BINARY] }).output();
    for (const [path] of new TextDecoder().decode(stdout).matchAll(/\/\S+/g)) {
      await Deno.mkdir(folder + path.slice(0, path.lastIndexOf("/")), { recursive: true });
      await Deno.copyFile(path, folder + path);
    }
    await Deno.copyFile(BINARY, `${folder}/pushd`);
    await Deno.mkdir(`${folder}/proc`);
    return new EmptyRoot(folder);
  }

  /** Starts a command of the shell in which `/pushd` is that of the folder, and everything else is gone. */
  #command(inside: string): string[] {
    const script = `mount --bind /proc "$0/proc" && ${inside}`;
    return ["unshare", "--mount", "env", "-i", "/bin/sh", "-c", script, this.folder];
  }

  /** Starts a server; the words of its usual call are the program, `--conf` and a file outside. */
  async start(config: Record<string, unknown>): Promise<Pushd> {
    const inside = 'cp "$3" "$0/pushd.cf" && exec /usr/sbin/chroot "$0" /pushd --conf /pushd.cf';
    return await startPushd({ prefix: this.#command(inside), config });
  }

  /** Runs a command to its end, and returns what it printed. */
  async run(...args: string[]): Promise<string> {
    return await runTool(this.#command('exec /usr/sbin/chroot "$0" /pushd "$@"'), ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}
