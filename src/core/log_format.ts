// How a log record looks: one line for people, or one JSON object on a line for programs.

import type { LogLevel, LogRecord } from "@logtape/logtape";

const LEVEL_NAMES: Record<LogLevel, string> = {
  trace: "TRACE",
  debug: "DEBUG",
  info: "INFO ",
  warning: "WARN ",
  error: "ERROR",
  fatal: "FATAL",
};

/** `2026-11-25 12:00:00.123 INFO  serv  message key=value`, in local time, line end included. */
export function formatText(record: LogRecord): string {
  const category = categoryOf(record).padEnd(5);
  const time = localTime(record.timestamp);
  return `${time} ${LEVEL_NAMES[record.level]} ${category} ${textOf(record)}\n`;
}

/** `message key=value`: what a line of text says behind its time, level and category. */
export function textOf(record: LogRecord): string {
  let line = printable(messageOf(record));
  for (const [key, value] of Object.entries(record.properties)) {
    // What the message has a place for has been said.
    if (!record.rawMessage.includes(`{${key}}`)) line += ` ${key}=${textValue(value)}`;
  }
  // Where a bug was is worth the long line; for everything else the message has to say enough.
  if (record.level === "fatal") {
    for (const value of Object.values(record.properties)) {
      if (value instanceof Error && value.stack) line += ` stack=${quoted(value.stack)}`;
    }
  }
  return line;
}

/**
 * One JSON object and a line end: `time` (ISO 8601, UTC), `level`, `category`, `message`, then the record's
 * properties. A property with one of these four names gets a `_` behind it.
 */
export function formatJson(record: LogRecord): string {
  const line: Record<string, unknown> = {
    time: new Date(record.timestamp).toISOString(),
    level: record.level === "warning" ? "warn" : record.level,
    category: categoryOf(record),
    message: messageOf(record),
  };
  for (const [key, value] of Object.entries(record.properties)) {
    line[key in line ? `${key}_` : key] = value instanceof Error
      ? { name: value.name, message: describeError(value), stack: value.stack }
      : value;
  }
  try {
    return JSON.stringify(line, (_key, value) => typeof value === "bigint" ? `${value}` : value) +
      "\n";
  } catch (error) {
    // A circle in somebody's property; the rest of the line is still worth having.
    const { time, level, category, message } = line;
    return JSON.stringify({ time, level, category, message, log_error: String(error) }) + "\n";
  }
}

/** Without the program's name: `serv`. */
export function categoryOf(record: LogRecord): string {
  return record.category[0] === "pushd"
    ? record.category.slice(1).join(".")
    : record.category.join(".");
}

function messageOf(record: LogRecord): string {
  return record.message
    .map((part, i) => i % 2 === 0 || typeof part === "string" ? String(part) : textValue(part))
    .join("");
}

function textValue(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=\p{C}]+$/u.test(value) ? value : quoted(value);
  if (value instanceof Error) return quoted(`${value.name}: ${describeError(value)}`);
  if (typeof value === "object" && value !== null) {
    return printable(Deno.inspect(value, { breakLength: Infinity, compact: true, depth: 4 }));
  }
  return String(value);
}

/** The message of an error and of what caused it. */
function describeError(error: Error): string {
  let text = error.message;
  let cause = error.cause;
  // Bounded, since causes can go in a circle.
  for (let depth = 0; cause !== undefined && depth < 5; depth++) {
    text += `; cause: ${cause instanceof Error ? cause.message : String(cause)}`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return text;
}

function quoted(text: string): string {
  return printable(JSON.stringify(text));
}

/** Control, format and line-parting characters as escapes: a log line cannot be forged or steer a terminal. */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu,
    (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

function localTime(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ` +
    `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.` +
    String(d.getMilliseconds()).padStart(3, "0");
}
