// Certificates for tests, made by openssl: an authority, and what it has signed.

import { requireTool } from "./require.ts";

export const opensslRequirement = requireTool("openssl");

/** A folder with an authority and its certificates; removed at the end. */
export class Authority implements AsyncDisposable {
  private constructor(readonly folder: string) {}

  static async create(): Promise<Authority> {
    const authority = new Authority(await Deno.makeTempDir({ prefix: "pushd-tls-" }));
    await authority.#openssl(
      ..."req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca"
        .split(" "),
    );
    return authority;
  }

  /** The path of a file of it. */
  path(name: string): string {
    return `${this.folder}/${name}`;
  }

  /** Its own certificate, in PEM. */
  async pem(): Promise<string> {
    return await Deno.readTextFile(this.path("ca.crt"));
  }

  /**
   * Makes `<name>.crt` and `<name>.key`, for localhost and 127.0.0.1; a negative number of days has
   * passed. Without extensions it is a certificate of version 1. `by` is whose certificate signs it.
   */
  async issue(
    name: string,
    days = 30,
    { extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1", by = "ca" } = {},
  ): Promise<{ cert: string; key: string }> {
    await Deno.writeTextFile(this.path("names.ext"), `${extensions}\n`);
    await this.#openssl(
      ..."req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(" "),
      ..."-keyout".split(" "),
      `${name}.key`,
      "-out",
      `${name}.csr`,
      "-subj",
      `/CN=${name}`,
    );
    await this.#openssl(
      ...`x509 -req -CA ${by}.crt -CAkey ${by}.key -CAcreateserial`.split(" "),
      ...(extensions === "" ? [] : ["-extfile", "names.ext"]),
      "-in",
      `${name}.csr`,
      "-days",
      `${days}`,
      "-out",
      `${name}.crt`,
    );
    return { cert: this.path(`${name}.crt`), key: this.path(`${name}.key`) };
  }

  /** A copy of a key that a passphrase protects. */
  async encrypt(key: string, to: string): Promise<string> {
    await this.#openssl("pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", to);
    return this.path(to);
  }

  async #openssl(...args: string[]): Promise<void> {
    const { success, stderr } = await new Deno.Command("openssl", {
      args,
      cwd: this.folder,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!success) throw new Error(`openssl ${args[0]}: ${new TextDecoder().decode(stderr)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** What `openssl s_client` prints that talks to a port: the lines of the server, after `input` was sent. */
export async function sClient(
  port: number,
  authority: Authority,
  input: string,
  args: readonly string[] = [],
): Promise<{ stdout: string; stderr: string; code: number }> {
  const child = new Deno.Command("openssl", {
    args: [
      "s_client",
      "-connect",
      `127.0.0.1:${port}`,
      "-servername",
      "localhost",
      "-CAfile",
      authority.path("ca.crt"),
      "-verify_return_error",
      ...args,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(15_000),
  }).spawn();
  const output = child.output();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { stdout, stderr, code } = await output;
  const decoder = new TextDecoder();
  return { stdout: decoder.decode(stdout), stderr: decoder.decode(stderr), code };
}
