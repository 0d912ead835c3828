// The log: loggers by category, configured once, written in the background so that it never stops the server.

import {
  configure,
  getLogger as getTapeLogger,
  type Logger,
  type LogRecord,
} from "@logtape/logtape";
import { formatJson, formatText } from "./log_format.ts";
import { FileOutput, type LogOutput, LogSink, stdoutOutput } from "./log_sink.ts";
import { recentLog } from "./recent_log.ts";

export type { Logger } from "@logtape/logtape";

/** From what level on records are written. */
export type LogLevelName = "debug" | "info" | "warn" | "error";

/** What {@linkcode configureLogging} takes. */
export interface LoggingOptions {
  level: LogLevelName;
  /** `"stdout"`, or the path of a file that is appended to. */
  file: string;
  format: "text" | "json";
}

/** Bound of what waits for an output that stands still, in bytes. */
const MAX_QUEUE_BYTES = 1024 * 1024;

let current: { sink: LogSink; output: LogOutput } | null = null;

/**
 * Opens the log; before that, records go nowhere. A second call takes the place of the first.
 *
 * Rejects with what the system says when the file cannot be opened; the log is then as it was before.
 */
export async function configureLogging(options: LoggingOptions): Promise<void> {
  const output = options.file === "stdout" ? stdoutOutput() : new FileOutput(options.file);
  await output.prepare?.();
  const format = options.format === "json" ? formatJson : formatText;
  const sink = new LogSink({
    output,
    maxQueueBytes: MAX_QUEUE_BYTES,
    notice: (message, properties) => format(noticeRecord(message, properties)),
    onFailure: (reason) =>
      sayOnStderr(`pushd: the log cannot be written to ${options.file}: ${reason}\n`),
  });
  const write = (record: LogRecord) => {
    recentLog.add(record);
    sink.write(format(record));
  };
  const previous = current;
  await configure({
    reset: true,
    sinks: { log: write },
    loggers: [
      {
        category: ["pushd"],
        lowestLevel: options.level === "warn" ? "warning" : options.level,
        sinks: ["log"],
      },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["log"] },
    ],
  });
  current = { sink, output };
  await previous?.sink.close(1000);
}

/**
 * The logger of a part of the server: `getLogger("serv")`. Can be called before the log is configured.
 *
 * A message is a constant text, in which `{` would begin a placeholder; what varies goes into the
 * properties: `log.info("listening", { addr })`. Nothing per message above debug, and no secret anywhere.
 */
export function getLogger(category: string): Logger {
  return getTapeLogger(["pushd", ...category.split(".")]);
}

/** Goes on in a new file of the same name, after somebody moved the old one away. Nothing on stdout. */
export function reopen(): void {
  current?.sink.reopen();
}

/**
 * Waits until everything logged so far is written, at most `timeoutMs`, and returns whether it is. To be
 * called before the process exits. An output that cannot be written is not waited for.
 */
export async function flushLogs(timeoutMs: number): Promise<boolean> {
  return current === null ? true : await current.sink.flush(timeoutMs);
}

function noticeRecord(message: string, properties: Record<string, unknown>): LogRecord {
  return {
    category: ["pushd", "log"],
    level: "warning",
    message: [message],
    rawMessage: message,
    timestamp: Date.now(),
    properties,
  };
}

/** A last word where the log itself fails. Not waited for: standard error may be the same broken pipe. */
function sayOnStderr(text: string): void {
  Deno.stderr.write(new TextEncoder().encode(text)).catch(() => {
    // Then there is nobody left to tell.
  });
}
