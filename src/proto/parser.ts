// The request parser: bytes in, events out, at whatever byte the network cut them.

import { CR, indexOfByte, isUtf8, LF, NUL, SPACE } from "./bytes.ts";
import { findLineEnd, findLineEnds, lineEnds, WINDOW_BYTES } from "./line_ends.ts";

/** What a {@link Parser} calls; the bytes are the parser's and good until the call returns. */
export interface ParserEvents {
  /**
   * A `pub <channel> <message>` line: the channel is `bytes[nameStart, nameEnd)`, at least one
   * byte, no space in it, not beginning with `-`, otherwise unchecked; the message is
   * `bytes[nameEnd + 1, end)`, possibly empty; `utf8` says whether the whole line is valid.
   */
  onPub(bytes: Uint8Array, nameStart: number, nameEnd: number, end: number, utf8: boolean): void;
  /** Any other line that is not empty (also a `pub` that lacks a word), its line end taken off. */
  onLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): void;
  /** A line longer than the limit, or a telnet subnegotiation without end. It is dropped. */
  onTooLong(): void;
}

/** A telnet subnegotiation longer than this is given up (RFC 855 sets no bound). */
const MAX_SUBNEGOTIATION_BYTES = 4096;

/**
 * How much a line's raw bytes may exceed the limit before they are given up: room for the CR and
 * for trailing NULs, which do not count. It makes the answer independent of where reads were cut.
 */
const LINE_END_SLACK = 64;

// Telnet, RFC 854: commands are 240–255, those from 251 to 254 have one option byte.
const IAC = 255;
const SB = 250;
const SE = 240;
const FIRST_COMMAND = 240;
const FIRST_OPTION_COMMAND = 251;
const LONE_IAC = Uint8Array.of(IAC);

const enum Telnet {
  None,
  Iac,
  Option,
  Sub,
  SubIac,
}

const EMPTY = new Uint8Array(0);

/** From this many bytes on, the ends of lines are looked for many at a time. */
const MIN_SCAN_BYTES = 512;
/** Whether what was found is still being used: an event may give another parser something to do. */
let isScanning = false;

/**
 * Splits a client's bytes into requests (docs/protocol.md, "Framing").
 *
 * Whole lines are handed over where they lie in the chunk; only a line that a read cut is copied,
 * into a buffer that never holds more than the limit and a little. Pure: no I/O, no clock.
 */
export class Parser {
  /** Longest line in bytes, its line end not counted; may be changed at any time. */
  maxLineBytes: number;

  #events: ParserEvents;
  #halted = false;
  #discarding = false;
  #carry: Uint8Array = EMPTY;
  #carryLength = 0;
  #telnet = Telnet.None;
  #subLength = 0;

  constructor(events: ParserEvents, maxLineBytes: number) {
    this.#events = events;
    this.maxLineBytes = maxLineBytes;
  }

  /** Bytes of an unfinished line that are held. */
  get heldBytes(): number {
    return this.#carryLength;
  }

  /** Makes the running {@link push} return after the present event; for the events to call. */
  halt(): void {
    this.#halted = true;
  }

  /**
   * Parses `chunk` from offset `from` and returns the offset of the first byte that was not taken:
   * the chunk's length, or less where an event called {@link halt}. The rest is to be given again.
   */
  push(chunk: Uint8Array, from = 0): number {
    this.#halted = false;
    const whole = isUtf8(chunk, from, chunk.length);
    if (this.#telnet === Telnet.None && (whole || chunk.indexOf(IAC, from) < 0)) {
      return this.#feed(chunk, from, chunk.length, whole);
    }
    return this.#pushTelnet(chunk, from);
  }

  /** As {@link push}, for chunks with telnet negotiation in them: feeds what lies between it. */
  #pushTelnet(chunk: Uint8Array, from: number): number {
    let at = from;
    while (at < chunk.length) {
      const byte = chunk[at];
      switch (this.#telnet) {
        case Telnet.None: {
          const iac = chunk.indexOf(IAC, at);
          const end = iac < 0 ? chunk.length : iac;
          if (end > at) {
            at = this.#feed(chunk, at, end, false);
            if (this.#halted) return at;
          }
          if (iac >= 0) {
            this.#telnet = Telnet.Iac;
            at = end + 1;
          }
          break;
        }
        case Telnet.Iac:
          if (byte === SB) {
            this.#telnet = Telnet.Sub;
            this.#subLength = 0;
            at++;
          } else if (byte === IAC || (byte >= FIRST_COMMAND && byte < FIRST_OPTION_COMMAND)) {
            this.#telnet = Telnet.None;
            at++;
          } else if (byte >= FIRST_OPTION_COMMAND) {
            this.#telnet = Telnet.Option;
            at++;
          } else {
            // Not a command: the 0xFF was an ordinary, invalid byte, and this one is data (an LF
            // swallowed here would glue two requests together).
            this.#telnet = Telnet.None;
            this.#feed(LONE_IAC, 0, 1, false);
            if (this.#halted) return at;
          }
          break;
        case Telnet.Option:
          this.#telnet = Telnet.None;
          at++;
          break;
        case Telnet.Sub:
        case Telnet.SubIac:
          at++;
          if (this.#telnet === Telnet.SubIac && byte === SE) {
            this.#telnet = Telnet.None;
          } else if (++this.#subLength > MAX_SUBNEGOTIATION_BYTES) {
            this.#telnet = Telnet.None;
            this.#giveUpLine();
            if (this.#halted) return at;
          } else {
            this.#telnet = this.#telnet === Telnet.Sub && byte === IAC ? Telnet.SubIac : Telnet.Sub;
          }
          break;
      }
    }
    return at;
  }

  /** Parses `buf[from, end)`, which holds no telnet; `utf8`: all of it is known to be valid. */
  #feed(buf: Uint8Array, from: number, end: number, utf8: boolean): number {
    let at = from;
    if (this.#discarding) {
      const lf = indexOfByte(buf, LF, at, end);
      if (lf < 0) return end;
      this.#discarding = false;
      at = lf + 1;
    } else if (this.#carryLength > 0) {
      const lf = indexOfByte(buf, LF, at, end);
      this.#keep(buf, at, lf < 0 ? end : lf);
      if (lf < 0) return end;
      at = lf + 1;
      if (this.#discarding) {
        this.#discarding = false;
      } else {
        const length = this.#carryLength;
        this.#carryLength = 0;
        this.#line(this.#carry, 0, length, isUtf8(this.#carry, 0, length));
      }
      // A burst's buffer is not kept by a connection that then falls idle.
      if (this.#carry.length > 1024) this.#carry = EMPTY;
      if (this.#halted) return at;
    }
    // A read often ends inside a character: the lines before that end are checked together too.
    let valid = utf8;
    if (!valid && at < end) {
      const last = buf.subarray(at, end).lastIndexOf(LF);
      valid = last >= 0 && isUtf8(buf, at, at + last);
    }
    while (end - at >= MIN_SCAN_BYTES && !isScanning) {
      at = this.#feedMany(buf, at, end, valid);
      if (this.#halted) return at;
    }
    while (at < end) {
      const lf = indexOfByte(buf, LF, at, end);
      if (lf < 0) {
        this.#keep(buf, at, end);
        return end;
      }
      this.#line(buf, at, lf, valid || isUtf8(buf, at, lf));
      at = lf + 1;
      if (this.#halted) return at;
    }
    return at;
  }

  /** As {@link #feed}, for some of many lines, or a long one: returns how far it came. */
  #feedMany(buf: Uint8Array, from: number, end: number, utf8: boolean): number {
    const count = findLineEnds(buf, from, end);
    if (count === 0) {
      const lf = findLineEnd(buf, Math.min(from + WINDOW_BYTES, end), end);
      if (lf < 0) {
        this.#keep(buf, from, end);
        return end;
      }
      this.#line(buf, from, lf, utf8 || isUtf8(buf, from, lf));
      return lf + 1;
    }
    isScanning = true;
    try {
      let at = from;
      for (let i = 0; i < count; i++) {
        const lf = from + lineEnds[i];
        this.#line(buf, at, lf, utf8 || isUtf8(buf, at, lf));
        at = lf + 1;
        if (this.#halted) break;
      }
      return at;
    } finally {
      isScanning = false;
    }
  }

  /** Keeps a piece of a line that is not finished, up to the limit. */
  #keep(buf: Uint8Array, start: number, end: number): void {
    const length = this.#carryLength + end - start;
    if (length > this.maxLineBytes + LINE_END_SLACK) {
      this.#giveUpLine();
      return;
    }
    if (length > this.#carry.length) {
      const grown = new Uint8Array(Math.max(64, Math.min(2 * length, this.maxLineBytes + 64)));
      grown.set(this.#carry.subarray(0, this.#carryLength));
      this.#carry = grown;
    }
    if (end - start < 64) {
      for (let i = start, o = this.#carryLength; i < end; i++, o++) this.#carry[o] = buf[i];
    } else {
      this.#carry.set(buf.subarray(start, end), this.#carryLength);
    }
    this.#carryLength = length;
  }

  #giveUpLine(): void {
    this.#carryLength = 0;
    this.#carry = EMPTY;
    if (this.#discarding) return;
    this.#discarding = true;
    this.#events.onTooLong();
  }

  /** One whole line, `buf[start, lf)`, its LF not included. */
  #line(buf: Uint8Array, start: number, lf: number, utf8: boolean): void {
    let end = lf;
    // A CR before the LF and trailing NULs (telnet sends CR NUL for a bare return) go.
    if (end > start && buf[end - 1] <= CR) {
      while (end > start && buf[end - 1] === NUL) end--;
      if (end > start && buf[end - 1] === CR) end--;
      while (end > start && buf[end - 1] === NUL) end--;
    }
    if (end - start > this.maxLineBytes || lf - start > this.maxLineBytes + LINE_END_SLACK) {
      this.#events.onTooLong();
      return;
    }
    if (end === start) return;
    // `| 0x20` folds ASCII letters only; no other byte becomes p, u or b by it.
    if (
      end - start > 5 && buf[start + 3] === SPACE && (buf[start] | 0x20) === 0x70 &&
      (buf[start + 1] | 0x20) === 0x75 && (buf[start + 2] | 0x20) === 0x62
    ) {
      const name = start + 4;
      let space = name;
      while (space < end && buf[space] !== SPACE) space++;
      if (space < end && space > name && buf[name] !== 0x2d) {
        this.#events.onPub(buf, name, space, end, utf8);
        return;
      }
    }
    this.#events.onLine(buf, start, end, utf8);
  }
}
