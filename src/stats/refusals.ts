// Requests that no app is asked about, and what is said to them.

import type { Buffer } from "node:buffer";
import { type IncomingMessage, METHODS, type ServerResponse, STATUS_CODES } from "node:http";

/** What is answered instead; `message` is a sentence for a person. */
export interface Refusal {
  status: number;
  code: string;
  message: string;
}

/** What node:http tells of a request that it gives up on. */
export interface ParserError extends Error {
  code?: string;
  /** What was read last, and how much of that was understood. */
  rawPacket?: Buffer;
  bytesParsed?: number;
}

export const NO_PROXY = refusal(405, "method-not-allowed", "this is no proxy; use GET");
export const NO_EXPECTATION = refusal(417, "bad-argument", "only 100-continue can be expected");

export const NO_HTTP = refusal(400, "bad-argument", "this is not an HTTP request");
export const LARGE_HEADERS = refusal(431, "line-too-long", "the headers are too large");

/** Stands for the host that HTTP/1.0 need not name. */
export const NO_HOST = "127.0.0.1";

const BY_CODE: Record<string, Refusal> = {
  ERR_HTTP_REQUEST_TIMEOUT: refusal(408, "bad-argument", "the request did not arrive in time"),
  HPE_HEADER_OVERFLOW: LARGE_HEADERS,
};

/** A refusal, in one line. */
export function refusal(status: number, code: string, message: string): Refusal {
  return { status, code, message };
}

/** A request's beginning as far as it is looked at: a token (RFC 9110, 5.6.2), and a target. */
const REQUEST_START = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,50}) (\/|\*|https?:)/;

/** Why node:http has given up, on a request or on the body of one. */
export function refusalOf(error: ParserError, isBody: boolean): Refusal {
  const { code = "", rawPacket, bytesParsed = 0 } = error;
  const known = BY_CODE[code];
  if (known !== undefined) return known;
  if (isBody) return NO_HTTP;
  const text = rawPacket?.toString("latin1") ?? "";
  const line = text.slice(text.lastIndexOf("\n", bytesParsed) + 1);
  const [, method] = REQUEST_START.exec(line) ?? [];
  // It says the same of methods that it does not know as of everything else.
  return method === undefined ? NO_HTTP : unknownMethod(method) ?? NO_HTTP;
}

/** What is said to a method that nobody knows; null where it is known. */
export function unknownMethod(method: string): Refusal | null {
  if (METHODS.includes(method)) return null;
  return refusal(501, "not-implemented", `there is no method ${method} here; use GET`);
}

/** Gives a request the form that apps understand; what speaks against it, else null. */
export function prepareRequest(request: IncomingMessage): Refusal | null {
  if (request.httpVersionMajor !== 1) {
    return refusal(505, "bad-argument", "speak HTTP/1.1 or HTTP/1.0");
  }
  const { rawHeaders } = request;
  const names = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === "host");
  // RFC 9112, 3.2.
  if (names.length > 1) return refusal(400, "bad-argument", "name one Host");
  const { host } = request.headers;
  // As load balancers ask who were told nothing else; a browser would name one.
  if (host === undefined && request.httpVersion === "1.0") setHost(request, NO_HOST);
  // RFC 3986, 3.2.3: a port may be empty.
  else if (host?.endsWith(":")) setHost(request, host.slice(0, -1));
  // RFC 9110, 9.3.7: of the server as a whole.
  if (request.method === "OPTIONS" && request.url === "*") request.url = "/";
  // RFC 3986, 3.1: schemes are of any case; the adapter knows small letters.
  request.url = request.url?.replace(/^https?:/i, (scheme) => scheme.toLowerCase());
  return null;
}

function setHost({ headers, rawHeaders }: IncomingMessage, host: string): void {
  headers.host = host;
  const at = rawHeaders.findIndex((name, at) => at % 2 === 0 && name.toLowerCase() === "host");
  if (at === -1) rawHeaders.push("Host", host);
  else rawHeaders[at + 1] = host;
}

/** Sends it, and closes the connection. */
export function sendRefusal(response: ServerResponse, refusal: Refusal): void {
  const { headers, body } = partsOf(refusal);
  response.writeHead(refusal.status, headers);
  response.end(body);
}

/** The whole answer, for a socket that no response is for. */
export function refusalText(refusal: Refusal): string {
  const { headers, body } = partsOf(refusal);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n${lines}\r\n${body}`;
}

function partsOf({ status, code, message }: Refusal) {
  const body = `${JSON.stringify({ error: { code, message } })}\n`;
  const headers = {
    "Content-Type": "application/json; charset=utf-8",
    ...(status === 405 ? { Allow: "GET, HEAD, OPTIONS" } : {}),
    "Content-Length": `${body.length}`,
    Date: new Date().toUTCString(),
    Connection: "close",
  };
  return { headers, body };
}
