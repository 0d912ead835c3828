// What a checker found: faults of the same kind at the same place counted together, with a few of them told.

/** What can be wrong. */
export type FindingKind =
  /** Messages of one publisher connection on one channel came in another order than they were sent. */
  | "order"
  /** Two subscribers of one channel on one node saw different orders. */
  | "different order"
  /** A message came twice on one connection. */
  | "repetition"
  /** A message did not come that had to. */
  | "loss"
  /** A message came that was never sent, or was sent elsewhere, or had been refused. */
  | "stranger"
  /** A timestamp is not the one of PUBLISHED, does not rise, or is there twice. */
  | "timestamp"
  /** A message was not taken although nothing is wrong with its node's store. */
  | "refusal"
  /** A connection lives, and a request was not answered. */
  | "no answer"
  /** A line came that the contract does not know there. */
  | "stray line"
  /** A connection ended although its node ran on. */
  | "disconnect"
  /** An acknowledged message is not in `his`. */
  | "history loss"
  | "history repetition"
  | "history order"
  /** `his` of two nodes is not the same. */
  | "history difference"
  /** `his` was PARTIAL with all nodes there. */
  | "history partial";

/** Details that are told of each. */
const MAX_DETAILS = 3;

/** One finding. */
export interface Finding {
  readonly kind: FindingKind;
  /** Whom it happened to. */
  readonly where: string;
  /** How often. */
  count: number;
  /** The first few. */
  readonly details: string[];
}

/** Collects findings. */
export class Findings {
  #found = new Map<string, Finding>();

  /** `detail` is only asked for where it is told. */
  add(kind: FindingKind, where: string, detail: () => string): void {
    const key = `${kind} ${where}`;
    let finding = this.#found.get(key);
    if (finding === undefined) {
      this.#found.set(key, finding = { kind, where, count: 0, details: [] });
    }
    finding.count++;
    if (finding.details.length < MAX_DETAILS) finding.details.push(detail());
  }

  get list(): Finding[] {
    return [...this.#found.values()];
  }
}

/** Findings as lines for a person. */
export function findingLines(findings: readonly Finding[]): string[] {
  return findings.flatMap(({ kind, where, count, details }) => [
    `${kind} × ${count}: ${where}`,
    ...details.map((detail) => `    ${detail}`),
  ]);
}

/** Why a message may be missing at a subscriber. Each is explained where it is decided, by who finds it. */
export type Excuse =
  | "left before it had to be there"
  | "its node did not know yet that somebody listens"
  | "its node was killed before it was passed on"
  | "the outage was beyond the replay bounds"
  /** Where it came back by `sub <channel> <timestamp>`. */
  | "its history was said to be PARTIAL"
  | "it was older than what is reached back for";

/** Messages that are missing rightly, of one subscriber: by publisher and number, why. */
export type MissedBy = Map<number, Map<number, Excuse>>;
