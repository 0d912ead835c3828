// Hot reload: reads the configuration again, and applies all of what it can or nothing.

import type { Config } from "./config/schema.ts";
import { createHash } from "node:crypto";
import { FileWatch } from "./config/file_watch.ts";
import { DEFAULT_PATH, type LoadResult } from "./config/load.ts";
import { type Change, describeChanges, planReload } from "./config/reload.ts";
import { getLogger } from "./core/logger.ts";
import type { Certificate } from "./core/certificate.ts";
import { spawn } from "./core/spawn.ts";
import { needsCertificate, readTls } from "./doors.ts";
import { metricsFileOf } from "./open_metrics_file.ts";
import type { Pushd } from "./pushd.ts";
import { StartError } from "./start_error.ts";
import type { MetricsFile } from "./stats/metrics_log.ts";

const log = getLogger("config");

/** Larger files are not looked into, in bytes. */
const MAX_FILE_BYTES = 1024 * 1024;

/** Who asked for a reload. */
export type Cause = "SIGHUP" | "the files have changed";

/** Reads the configuration, and reloads it while the server runs, one reload at a time. */
export class Reloader {
  /** What the server is to start with. */
  readonly first: LoadResult;

  #load: (path: string | null) => LoadResult;
  #path: string | null;
  #watch: FileWatch;
  #pushd: Pushd | null = null;
  /** Somebody has asked for a reload while the server still started. */
  #wasAskedEarly = false;
  /** What is in force, or to be so; null before it is known. */
  #config: Config | null = null;
  #last: Promise<void> = Promise.resolve();
  /** What was in the files at the last reload, or try of one. */
  #seen: string;
  /** What was said already of keys that need a restart, and of warnings. */
  #saidRestart = "";
  #saidWarnings: Set<string>;

  /** `load` reads the file at a path, null where none is named, and what goes with it. */
  constructor(path: string | null, load: (path: string | null) => LoadResult) {
    this.#path = path;
    this.#load = load;
    // Before the file is read, so that no change of it is missed.
    this.#watch = new FileWatch({
      paths: () => this.#files,
      onChange: () => this.reload("the files have changed"),
      onMissing: (path, state) =>
        log.warn(`a file of the configuration is ${state}; the server goes on as it was`, { path }),
    });
    this.#seen = this.#fingerprint();
    this.first = load(path);
    this.#path = this.first.path;
    this.#saidWarnings = new Set(this.first.warnings);
    if (this.first.ok) {
      this.#config = this.first.config;
      this.#watch.lookAtNew();
    }
  }

  /** The server has started: watches the files from now on. */
  start(pushd: Pushd): void {
    this.#pushd = pushd;
    if (this.#wasAskedEarly) spawn("reload", () => this.reload("SIGHUP"));
    spawn("config.watch", (signal) => this.#watch.run(signal));
  }

  /** The files whose change is a reason to reload. */
  get #files(): string[] {
    const files = [this.#path ?? DEFAULT_PATH];
    if (this.#config !== null && needsCertificate(this.#config)) {
      files.push(this.#config.tls_cert, this.#config.tls_key);
    }
    return files;
  }

  /** What is in the files; a file that cannot be read counts as an empty one. */
  #fingerprint(): string {
    const hash = createHash("sha256");
    for (const path of this.#files) {
      let bytes = new Uint8Array(0);
      try {
        const { isFile, size, mtime } = Deno.statSync(path);
        // No configuration is so large, and reading it would take its time.
        if (size > MAX_FILE_BYTES) hash.update(`${size} ${mtime?.getTime()}`);
        else if (isFile) bytes = Deno.readFileSync(path);
      } catch {
        // It is gone, or not ours to read: the reload says what is wrong.
      }
      hash.update(`${path}:${bytes.length}:`).update(bytes);
    }
    return hash.digest("hex");
  }

  /** Reloads after those that were asked for before. Rejects for a bug only. */
  reload(cause: Cause): Promise<void> {
    return this.#last = this.#last.then(() => this.#reload(cause));
  }

  async #reload(cause: Cause): Promise<void> {
    const pushd = this.#pushd;
    if (pushd === null) {
      this.#wasAskedEarly = true;
      return;
    }
    const fingerprint = this.#fingerprint();
    // SIGHUP has read what the watch sees now, or a file has only been touched.
    if (cause !== "SIGHUP" && fingerprint === this.#seen) return;
    this.#seen = fingerprint;
    if (this.#path !== null && isPipe(this.#path)) {
      return refuse(pushd, [`${this.#path}: a pipe cannot be read again; use a file`], cause);
    }
    const loaded = this.#load(this.#path);
    if (!loaded.ok) return refuse(pushd, loaded.mistakes, cause);
    const plan = planReload(pushd.config, loaded.config);
    if (!plan.ok) return refuse(pushd, plan.mistakes, cause);
    // Also where it is refused: what was wrong may be mended in these files.
    this.#config = plan.config;
    this.#watch.lookAtNew();
    let certificate: Certificate | null;
    let metricsFile: MetricsFile | null | undefined;
    try {
      certificate = readTls(plan.config);
      if (plan.config.metrics_logfile !== pushd.config.metrics_logfile) {
        metricsFile = await metricsFileOf(plan.config);
      }
    } catch (error) {
      if (!(error instanceof StartError)) throw error;
      return refuse(pushd, [error.message], cause);
    }
    this.#path = loaded.path;
    this.#warn([...loaded.warnings, ...plan.warnings]);
    const isRenewed = certificate !== null && pushd.doors.isAnother(certificate);
    await pushd.apply(plan.config, certificate, metricsFile);
    pushd.reloads.ok++;
    log.info("configuration reloaded: {changes}", {
      changes: [
        ...(plan.changes.length > 0 ? [describeChanges(plan.changes)] : []),
        ...(isRenewed ? ["the certificate is another one"] : []),
      ].join("; ") || "nothing changed",
      cause,
    });
    this.#tellRestart(plan.needRestart);
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) {
      if (!this.#saidWarnings.has(warning)) log.warn("{warning}", { warning });
    }
    this.#saidWarnings = new Set(warnings);
  }

  #tellRestart(changes: readonly Change[]): void {
    const text = describeChanges(changes);
    if (text !== "" && text !== this.#saidRestart) {
      log.warn("a restart is needed for: {changes}", { changes: text });
    }
    this.#saidRestart = text;
  }
}

/** Whether reading the path again would wait for somebody to write to it. */
function isPipe(path: string): boolean {
  try {
    const { isFile, isDirectory } = Deno.statSync(path);
    return !isFile && !isDirectory;
  } catch {
    return false;
  }
}

function refuse({ reloads }: Pushd, mistakes: readonly string[], cause: Cause): void {
  reloads.failed++;
  for (const mistake of mistakes) log.error("{mistake}", { mistake });
  log.error("configuration not reloaded: the server goes on as it was", {
    mistakes: mistakes.length,
    cause,
  });
}
