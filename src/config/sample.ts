// The sample configuration: every key, with its meaning and its default.

import { GROUPS, KEY_NAMES, type KeyName, SECTIONS, specOf } from "./schema.ts";
import type { Raw } from "./value_types.ts";

/** Longest line of the sample, in characters. */
const SAMPLE_WIDTH = 100;

/** The text of etc/pushd.cf.sample: every key commented out, so that a copy of it changes nothing. */
export function renderSample(): string {
  const lines = [
    "# A sample configuration of pushd: every key, with its meaning and its default. Take away the # in",
    "# front of a key to set it. docs/configuration.md says more; pushd check-config FILE checks a file.",
    "#",
    "# Values without quotes run to the end of their line, comma and comment included: when in doubt, quote.",
    "{",
  ];
  for (const [group, title] of Object.entries(GROUPS)) {
    lines.push("", `  # ${"-".repeat(8)} ${title} ${"-".repeat(60 - title.length)}`);
    const names = KEY_NAMES.filter((name) => specOf(name).group === group);
    for (const name of names.filter((name) => !name.includes("."))) {
      lines.push("", ...comment(name, "  "), `  #${name}: ${sampleForm(name)}`);
    }
    for (const section of SECTIONS) {
      const leaves = names.filter((name) => name.startsWith(`${section}.`));
      if (leaves.length === 0) continue;
      lines.push("", `  #${section}: {`);
      for (const name of leaves) {
        const leaf = name.slice(section.length + 1);
        lines.push(...comment(name, "    "), `    #${leaf}: ${sampleForm(name)}`);
      }
      lines.push("  #}");
    }
  }
  return `${[...lines, "}"].join("\n")}\n`;
}

function comment(name: KeyName, indent: string): string[] {
  const { meaning, defaultNote, reload, type } = specOf(name);
  const notYet = notYetText(name);
  const text = [
    meaning,
    defaultNote === undefined ? null : `Default: ${defaultNote}.`,
    type.example === undefined ? null : `Such as: ${type.example}.`,
    reload ? "A reload applies it." : null,
    notYet === null ? null : `Not yet in this version: ${notYet}.`,
  ].filter((part) => part !== null).join(" ").replaceAll("`", "");
  return wrap(text, SAMPLE_WIDTH - indent.length - 2).map((line) => `${indent}# ${line}`);
}

function sampleForm(name: KeyName): string {
  const { default: fallback } = specOf(name);
  // A default that the server works out has no form; the example is one that can be set.
  if (fallback === null) return "10000";
  return fileForm(name, fallback);
}

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last === "") lines[lines.length - 1] = word;
    else if (last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** What this version does instead, for a key that it cannot serve yet; null for one that it can. */
export function notYetText(name: KeyName): string | null {
  const { notYet, default: fallback } = specOf(name);
  if (notYet === undefined) return null;
  if (typeof notYet === "string") return notYet;
  const words = ["sqlite", "mongodb"].filter((word) => notYet(word) !== null && word !== fallback);
  return `with ${words.map((word) => `\`"${word}"\``).join(" or ")} ${notYet(words[0])}`;
}

/** A value as the file says it. */
export function fileForm(name: KeyName, value: Raw): string {
  const { digits } = specOf(name).type;
  if (digits && typeof value === "string") return value;
  return JSON.stringify(value);
}
