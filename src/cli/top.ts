// `pushd top`: how a running server is, on a screen that is redrawn, or as text or JSON for scripts.

import { pause } from "../core/pause.ts";
import { setCrashHook, spawn } from "../core/spawn.ts";
import { Wake } from "../core/wake.ts";
import { printError, writeOut } from "./output.ts";
import type { TopCall } from "./top/args.ts";
import { takeKeyboard } from "./top/keys.ts";
import { summaryOf } from "./top/rates.ts";
import { Screen, terminalSize } from "./top/screen.ts";
import { type Sample, StatsClient, StatsFault } from "./top/stats_client.ts";
import type { Paper } from "./top/table.ts";
import { rowsWanted, topLines, type TopState } from "./top/view.ts";

/** Rates are first known after so long, ms. */
const FIRST_MS = 1000;
/** Items of each list with `--json`. */
const JSON_ITEMS = 20;
/** The width of text that goes to no terminal. */
const PLAIN_COLUMNS = 100;
/** A terminal that takes nothing is not waited for at the end, ms. */
const LEAVE_MS = 500;

/** Runs it. Resolves to the exit code: 0, or 1 where there is no answer to begin with. */
export async function runTop(
  args: TopCall,
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const ending = new AbortController();
  const end = () => ending.abort();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, end);
  }
  let hasCrashed = false;
  setCrashHook(() => {
    hasCrashed = true;
    end();
  });
  const client = new StatsClient(args.url, args.token ?? env.PUSHD_STATS_TOKEN ?? "");
  const { signal } = ending;
  const isTerminal = Deno.stdout.isTerminal();
  // What is said of a terminal that can nothing.
  const isDumb = (env.TERM ?? "dumb") === "dumb";
  const hasColour = isTerminal && !isDumb && (env.NO_COLOR ?? "") === "";
  try {
    if (args.once || args.json || !isTerminal || isDumb) {
      await print(args, client, { hasColour, isTerminal }, signal);
    } else {
      await draw(args, client, hasColour, ending);
    }
  } catch (error) {
    // Whoever has read enough, or a window that was closed.
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    if (error instanceof StatsFault) {
      printError(error.message);
      return 1;
    }
    if (!signal.aborted) throw error;
  }
  return hasCrashed ? 1 : 0;
}

/** One block, or line of JSON, behind the other. */
async function print(
  { once, json, url, intervalMs }: TopCall,
  client: StatsClient,
  { hasColour, isTerminal }: { hasColour: boolean; isTerminal: boolean },
  signal: AbortSignal,
): Promise<void> {
  const columns = isTerminal ? terminalSize().columns : PLAIN_COLUMNS;
  const paper: Paper = { columns, rows: Infinity, hasColour, isScreen: false };
  const items = json ? JSON_ITEMS : rowsWanted(Infinity);
  let before: Sample = await client.sample(items, signal);
  let lost = null as TopState["lost"];
  for (let waitMs = FIRST_MS; !signal.aborted; waitMs = intervalMs) {
    await pause(waitMs, signal);
    if (signal.aborted) return;
    let sample: Sample | null = null;
    try {
      sample = await client.sample(items, signal);
      lost = null;
    } catch (error) {
      if (once || !(error instanceof StatsFault)) throw error;
      lost = { sinceMs: lost?.sinceMs ?? before.wallMs, reason: error.message };
    }
    if (json) {
      // What reads it waits for the next line; it is told on standard error why there is none.
      if (sample === null) printError(lost?.reason ?? "no answer");
      else await writeOut(`${JSON.stringify(summaryOf(url, before, sample))}\n`);
    } else {
      const state = { url, before, sample: sample ?? before, lost, nowMs: Date.now() };
      await writeOut(`${topLines(state, paper).join("\n")}\n${once ? "" : "\n"}`);
    }
    if (once) return;
    before = sample ?? before;
  }
}

/** One picture, drawn in place. */
async function draw(
  { url, intervalMs }: TopCall,
  client: StatsClient,
  hasColour: boolean,
  ending: AbortController,
): Promise<void> {
  const { signal } = ending;
  const first = await client.sample(rowsWanted(terminalSize().rows), signal);
  let state: TopState = { url, before: null, sample: first, lost: null, nowMs: Date.now() };
  const screen = new Screen(writeOut);
  const wake = new Wake();
  const resized = () => wake.set();
  const keyboard = takeKeyboard();
  // Also where an error ends the process without any `finally`.
  const restore = () => {
    keyboard.release();
    try {
      Deno.stdout.writeSync(new TextEncoder().encode(Screen.leave));
    } catch {
      // The terminal is gone.
    }
  };
  globalThis.addEventListener("unload", restore);
  try {
    signal.addEventListener("abort", resized);
    Deno.addSignalListener("SIGWINCH", resized);
    spawn("top.keys", async () => {
      await keyboard.quit;
      ending.abort();
    });
    await screen.enter();
    const drawing = async () => {
      const { columns, rows } = terminalSize();
      const lines = topLines(state, { columns, rows, hasColour, isScreen: true });
      await screen.draw(lines, { columns, rows });
    };
    await drawing();
    let dueMs = performance.now() + Math.min(FIRST_MS, intervalMs);
    while (!signal.aborted) {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) {
        await wake.wait(leftMs);
      } else {
        state = await next(state, client, signal);
        dueMs = performance.now() + intervalMs;
      }
      if (!signal.aborted) await drawing();
    }
  } finally {
    Deno.removeSignalListener("SIGWINCH", resized);
    globalThis.removeEventListener("unload", restore);
    keyboard.release();
    // A connection that has broken off takes nothing, and the one who asked is to go home.
    await Promise.race([
      writeOut(Screen.leave).catch(() => {}),
      new Promise((resolve) => setTimeout(resolve, LEAVE_MS)),
    ]);
  }
}

/** What is known one interval later. */
async function next(state: TopState, client: StatsClient, signal: AbortSignal): Promise<TopState> {
  const nowMs = Date.now();
  try {
    const sample = await client.sample(rowsWanted(terminalSize().rows), signal);
    return { ...state, before: state.sample, sample, lost: null, nowMs: sample.wallMs };
  } catch (error) {
    if (!(error instanceof StatsFault)) {
      if (signal.aborted) return state;
      throw error;
    }
    const sinceMs = state.lost?.sinceMs ?? state.sample.wallMs;
    return { ...state, lost: { sinceMs, reason: error.message }, nowMs };
  }
}
