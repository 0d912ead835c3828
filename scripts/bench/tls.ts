// What the rows over TLS need: a certificate, and a generator that speaks it.

import { CompileError } from "./compile.ts";
import { MissingError } from "./known_servers.ts";
import { Loadgen } from "./loadgen.ts";
import { findProgram, type Processes } from "./processes.ts";

/** Paths of files in PEM. */
export interface Certificate {
  cert: string;
  key: string;
}

/** Makes a certificate for the loopback that is good for two days. Throws a {@link MissingError}. */
export async function makeCertificate(folder: string, processes: Processes): Promise<Certificate> {
  const openssl = await findProgram("openssl");
  if (openssl === null) throw new MissingError("openssl was not found: apt-get install openssl");
  const cert = `${folder}/cert.pem`, key = `${folder}/key.pem`;
  const kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" ");
  const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  const args = ["req", ...kind, ...name, "-keyout", key, "-out", cert];
  const { success, stderr } = await processes.run(openssl, args);
  if (!success) throw new MissingError(`openssl failed: ${new TextDecoder().decode(stderr)}`);
  return { cert, key };
}

/** The generator with OpenSSL in it. Throws a {@link MissingError} where that is not installed. */
export async function compileTls(
  folder: string,
  processes: Processes,
  certificate: Certificate,
): Promise<Loadgen> {
  try {
    return await Loadgen.compile(folder, processes, certificate);
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    throw new MissingError(
      `the generator could not be compiled with TLS (apt-get install libssl-dev): ${error.message}`,
    );
  }
}
