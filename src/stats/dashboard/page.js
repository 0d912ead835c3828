// The page: what the server says goes to where it is shown, and its state to the head of the page.

import { listen } from "./feed.js";
import * as format from "./format.js";
import { Cards } from "./plots.js";
import { element, Log, Looks, setText, showConf } from "./tables.js";

/** What the server does not do well, for people. @type {Record<string, string>} */
const FAILINGS = {
  storage: "the store does not take messages",
  draining: "the server is stopping",
  etc: "ZooKeeper cannot be reached",
  s2s: "other nodes are missing",
};

const cards = new Cards();
const looks = new Looks();
const log = new Log();

/** @type {{ sinceMs: number, reason: string } | null} */
let lost = null;
let node = "";
let announced = "";

/** @param {string} state @param {string} word @param {string} why @param {string} title */
function showState(state, word, why, title) {
  element("state").dataset.state = state;
  setText(element("word"), word);
  setText(element("why"), why);
  const named = node === "" ? "pushd" : `pushd ${node}`;
  document.title = title === "" ? named : `${title} – ${named}`;
  // Only what has changed is worth being read out, not the seconds.
  if (word === announced) return;
  const isFirst = announced === "";
  announced = word;
  if (!isFirst || state !== "ready") setText(element("announce"), `${word}. ${why}`);
}

/** @param {{ ready: boolean, failing: readonly string[] }} readiness */
function showReadiness({ ready, failing }) {
  const why = failing.map((what) => FAILINGS[what] ?? what).join("; ");
  if (!ready) showState("failing", "Not ready", why, "✗ not ready");
  else if (failing.length > 0) showState("warning", "Ready, but", why, "! ready, but");
  else showState("ready", "Ready", "everything that it needs works", "");
}

function showLost() {
  if (lost === null) return;
  const time = format.duration((Date.now() - lost.sinceMs) / 1000);
  const reason = lost.reason === "" ? "trying again" : lost.reason;
  showState("lost", "Connection lost", `for ${time}; ${reason}`, "? connection lost");
}

/** @type {Record<string, (data: any) => void>} */
const HANDLERS = {
  hello(hello) {
    lost = null;
    node = hello.node;
    setText(element("node"), hello.node);
    setText(element("version"), `${hello.version}, ${hello.runtime}`);
    cards.begin(hello);
    log.clear();
    log.add(hello.log);
    showConf(hello.conf);
    if (hello.look !== null) looks.show(hello.look);
    showUptime(hello);
    showReadiness(hello);
  },
  moment(moment) {
    cards.add(moment.row);
    showUptime(moment);
    showReadiness(moment);
  },
  look: (look) => looks.show(look),
  log: (records) => log.add(records),
  conf: showConf,
};

/** @param {{ uptime_s: number }} said */
function showUptime({ uptime_s }) {
  setText(element("uptime"), format.duration(uptime_s));
}

listen({
  on: (event, data) => HANDLERS[event](data),
  lost: (reason) => {
    lost = { sinceMs: lost?.sinceMs ?? Date.now(), reason: reason || (lost?.reason ?? "") };
    showLost();
  },
});
setInterval(showLost, 1000);
