// The rows about messages that are kept: acknowledged publishing, reading history, and a fan-out beside it.

import { type Asker, askFaultsOf, type AskRun, isOnlySilent, type Question } from "./asker.ts";
import { progress, type Settings } from "./bench.ts";
import { type AskReport, reportAnswers } from "./kept_report.ts";
import { faultsOf, type Loadgen, type Run } from "./loadgen.ts";
import type { DurableRow, HistoryRow, WritingRow } from "./rows.ts";
import type { Server } from "./servers.ts";
import { inTurns, leastDisturbed } from "./turns.ts";

/** A server, and what it is asked; one server can be asked in two ways. */
export interface Contender {
  name: string;
  question: Question;
  server: Server;
}

/** A server with a history to read; pushd's is read from a timestamp on. */
export interface Library extends Contender {
  since: string;
}

const SIZE = 64;
/** Messages of a page of history. */
export const PAGE = 1000;

const CEILING_RUNS = 3, CEILING_SECONDS = 0.4;

export class KeptRows {
  readonly faults: string[] = [];
  /** Rows, and the servers that did not answer in time; pushd has to. */
  readonly silent: Set<string> = new Set();

  constructor(readonly settings: Settings, readonly asker: Asker, readonly loadgen: Loadgen) {}

  async durable(row: DurableRow, contenders: readonly Contender[]): Promise<AskReport> {
    const { publishers: connections, window } = row;
    const shape = { connections, window, size: SIZE };
    const runs = await this.#ask(row.id, contenders, ({ question }) => ({ question, ...shape }));
    const measured = [];
    for (const { name, question } of contenders) {
      const ceiling = await this.#ceiling({ question, ...shape });
      measured.push({ name, runs: runs.get(name) ?? [], ceiling });
    }
    const each = `${window} unacknowledged each`;
    const title = `${connections} publisher${connections === 1 ? "" : "s"}, ${each}, ${SIZE} B`;
    return reportAnswers({ row: row.id, title, unit: "acknowledged/s", perAnswer: 1, measured });
  }

  async history(row: HistoryRow, libraries: readonly Library[]): Promise<AskReport> {
    const { connections } = row;
    const shapeOf = ({ question, since }: Library) => {
      const extra = ["--page", String(PAGE), "--since", since];
      return { question, connections, window: 1, size: SIZE, extra };
    };
    const runs = await this.#ask(row.id, libraries, shapeOf);
    const measured = [];
    for (const library of libraries) {
      const ceiling = await this.#ceiling(shapeOf(library));
      measured.push({ name: library.name, runs: runs.get(library.name) ?? [], ceiling });
    }
    const title =
      `a page of ${PAGE} messages of ${SIZE} B from the ${row.from}, ${connections} at a time`;
    return reportAnswers({ row: row.id, title, unit: "messages/s", perAnswer: PAGE, measured });
  }

  /** The same fan-out on several pushds; with a rate at that load, else as fast as each of them can. */
  async writing(
    { id, row }: WritingRow,
    servers: ReadonlyMap<string, Server>,
    deliveriesPerSecond: number | null,
  ): Promise<Map<string, Run[]>> {
    const { rounds, retries, seconds, warmupSeconds } = this.settings;
    const rate = deliveriesPerSecond === null ? undefined : deliveriesPerSecond / row.subscribers;
    const runs = await inTurns([...servers], rounds, ([name, server], round) => {
      progress(`${id}: round ${round}, ${name}`);
      return leastDisturbed(retries, async () => {
        const { port, process: { pid } } = server;
        const run = await this.loadgen.run({
          protocol: "pushd",
          row,
          seconds,
          warmupSeconds,
          rate,
          server: { port, pid },
        });
        this.#note(`${id}, ${name}`, faultsOf(run));
        return run;
      });
    });
    return new Map([...runs].map(([[name], list]) => [name, list]));
  }

  async #ask<C extends Contender>(
    id: string,
    contenders: readonly C[],
    shapeOf: (contender: C) => Shape,
  ): Promise<Map<string, AskRun[]>> {
    const { rounds, retries, seconds, warmupSeconds } = this.settings;
    const runs = await inTurns(contenders, rounds, (contender, round) => {
      const { name, server: { port, process: { pid } } } = contender;
      progress(`${id}: round ${round}, ${name}`);
      return leastDisturbed(retries, async () => {
        const options = { ...shapeOf(contender), seconds, warmupSeconds, server: { port, pid } };
        const run = await this.asker.run(options);
        const where = `${id}, ${name}`;
        if (contender.question !== "pub" && isOnlySilent(run)) this.silent.add(where);
        else this.#note(where, askFaultsOf(run));
        return run;
      });
    });
    return new Map([...runs].map(([{ name }, list]) => [name, list]));
  }

  async #ceiling(shape: Shape): Promise<number> {
    progress(`the generator's ceiling: ${shape.question}`);
    const figures = [];
    for (let i = 0; i < CEILING_RUNS; i++) {
      const seconds = Math.min(CEILING_SECONDS, this.settings.seconds);
      const run = await this.asker.run({ ...shape, seconds, warmupSeconds: seconds / 2 });
      this.#note(`the null server, ${shape.question}`, askFaultsOf(run));
      figures.push(run.answers_per_s);
    }
    return Math.max(...figures);
  }

  #note(where: string, faults: string): void {
    if (faults !== "") this.faults.push(`${where}: ${faults}`);
  }
}

interface Shape {
  question: Question;
  connections: number;
  window: number;
  size: number;
  extra?: readonly string[];
}
