// Lists of channels, connections, nodes, warnings and settings; whatever a name holds, it is text.

import * as format from "./format.js";

/**
 * @typedef {{ title: string, number?: boolean, minor?: boolean }} Column `minor` is left out on a phone
 * @typedef {{ text: string, kind?: string }} Cell
 */

/** A table that is filled again and again, or a sentence where there is nothing to fill it with. */
export class Table {
  /**
   * @param {HTMLElement} place
   * @param {string} caption
   * @param {readonly Column[]} columns
   */
  constructor(place, caption, columns) {
    this.columns = columns;
    this.empty = place.appendChild(document.createElement("p"));
    this.empty.className = "empty";
    this.wrap = place.appendChild(document.createElement("div"));
    this.wrap.className = "scroll";
    this.wrap.hidden = true;
    const table = this.wrap.appendChild(document.createElement("table"));
    const title = table.createCaption();
    title.className = "unseen";
    title.textContent = caption;
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const th = head.appendChild(document.createElement("th"));
      th.scope = "col";
      th.textContent = column.title;
      th.className = classOf(column);
    }
    this.body = table.createTBody();
    // Whoever has no mouse can move what is wider than the screen.
    this.wrap.setAttribute("role", "region");
    this.wrap.setAttribute("aria-label", caption);
    this.wrap.tabIndex = 0;
  }

  /**
   * Cells are kept where they are, so that a text that was selected stays so.
   *
   * @param {readonly (readonly Cell[])[]} rows
   * @param {string} empty what to say where there is none
   */
  fill(rows, empty) {
    setText(this.empty, empty);
    this.empty.hidden = rows.length > 0;
    this.wrap.hidden = rows.length === 0;
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    rows.forEach((cells, y) => {
      const row = this.body.rows[y] ?? this.#addRow();
      cells.forEach(({ text, kind }, x) => {
        setText(row.cells[x], text);
        row.cells[x].dataset.kind = kind ?? "";
      });
    });
  }

  #addRow() {
    const row = this.body.insertRow();
    this.columns.forEach((column, x) => {
      const cell = document.createElement(x === 0 ? "th" : "td");
      if (x === 0) cell.scope = "row";
      cell.className = classOf(column);
      row.append(cell);
    });
    return row;
  }
}

/** @param {Column} column */
function classOf({ number, minor }) {
  return [number ? "number" : "", minor ? "minor" : ""].join(" ").trim();
}

/** @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {string} text @param {string} [kind] @returns {Cell} */
export function cell(text, kind) {
  return { text, kind };
}

/** An address of the door of clients as one would type it. @param {string} node as it is named */
function telnetOf(node) {
  const [, port] = /:(\d+)$/.exec(node) ?? [];
  return `telnet localhost ${port ?? 2222}, then sub channel1`;
}

/** What the server last saw when it looked around, in tables. */
export class Looks {
  constructor() {
    this.nodes = new Table(element("cluster"), "Nodes of the cluster", [
      { title: "Node" },
      { title: "State" },
      { title: "Since", minor: true },
      { title: "Round trip", number: true, minor: true },
      { title: "Clock", number: true, minor: true },
      { title: "Waiting", number: true },
      { title: "Lost", number: true },
      { title: "Version", minor: true },
    ]);
    this.channels = new Table(element("channels"), "Channels with the most subscribers", [
      { title: "Channel" },
      { title: "Subscribers", number: true },
      { title: "Published", number: true },
      { title: "Last", minor: true },
    ]);
    this.slow = new Table(element("slow"), "Connections with the most waiting", [
      { title: "Address" },
      { title: "User" },
      { title: "Waiting", number: true },
      { title: "Sent", number: true, minor: true },
      { title: "Channels", number: true, minor: true },
    ]);
  }

  /** @param {any} look see live_feed.ts */
  show(look) {
    this.#showNodes(look);
    setText(
      element("channels-sum"),
      `${format.count(look.channel_count)} channels, ${
        format.count(look.subscriptions)
      } subscriptions`,
    );
    this.channels.fill(
      look.channels.map((/** @type {any} */ channel) => [
        cell(nameOf(channel.channel, channel.app)),
        cell(format.count(channel.subscribers)),
        cell(format.count(channel.published)),
        cell(channel.last_ts === 0 ? "never" : format.momentOf(channel.last_ts / 1000)),
      ]),
      `No channel yet: ${telnetOf(look.node)}.`,
    );
    setText(
      element("slow-sum"),
      `${format.count(look.slow_consumers)} cut off since the start`,
    );
    this.slow.fill(
      look.slowest.map((/** @type {any} */ connection) => [
        cell(connection.address),
        cell(connection.user === null ? "–" : nameOf(connection.user, connection.app)),
        cell(format.bytes(connection.pending)),
        cell(format.bytes(connection.bytes_out)),
        cell(format.count(connection.channels)),
      ]),
      "Nobody is behind: every client has taken what there was for it.",
    );
  }

  /** @param {any} look */
  #showNodes({ cluster, nodes }) {
    const up = nodes.filter((/** @type {any} */ node) => node.state === "up").length;
    setText(
      element("cluster-sum"),
      cluster === null ? "" : `${cluster}: ${up} of ${nodes.length} nodes up`,
    );
    this.nodes.fill(
      cluster === null ? [] : nodes.map((/** @type {any} */ node) => [
        cell(`${node.id ?? node.s2s_addr ?? "?"}${node.self ? " (this one)" : ""}`),
        cell(node.state, node.state),
        cell(node.since === null ? "–" : format.momentOf(Date.parse(node.since))),
        cell(format.ms(node.rtt_ms)),
        cell(node.skew_ms === null ? "–" : `${format.count(Math.round(node.skew_ms) || 0)} ms`),
        cell(format.bytes(node.replay_bytes)),
        cell(format.count(node.lost), node.lost > 0 ? "bad" : ""),
        cell(node.version ?? "–"),
      ]),
      "This node stands alone. With etc_servers or s2s_peers several serve as one.",
    );
  }
}

/** @param {string} name @param {string} app */
function nameOf(name, app) {
  return app === "" || app === "default" ? name : `${name} (${app})`;
}

/** The last warnings, the newest first. */
export class Log {
  constructor() {
    const place = element("log");
    this.empty = place.appendChild(document.createElement("p"));
    this.empty.className = "empty";
    this.list = place.appendChild(document.createElement("ol"));
    this.list.className = "log";
    this.list.hidden = true;
    this.list.tabIndex = 0;
    this.list.setAttribute("aria-label", "The last warnings and errors, the newest first");
    setText(this.empty, "–");
  }

  clear() {
    this.list.replaceChildren();
    this.#count();
  }

  /** @param {readonly any[]} records see recent_log.ts; the oldest first */
  add(records) {
    for (const { time, level, category, text } of records) {
      const item = document.createElement("li");
      item.dataset.level = level;
      const when = document.createElement("time");
      when.dateTime = time;
      when.textContent = format.momentOf(Date.parse(time));
      const kind = document.createElement("b");
      kind.textContent = level;
      const what = document.createElement("span");
      what.textContent = `${category}: ${text}`;
      item.append(when, " ", kind, " ", what);
      this.list.prepend(item);
    }
    while (this.list.children.length > 100) this.list.lastChild?.remove();
    this.#count();
  }

  #count() {
    const { length } = this.list.children;
    this.list.hidden = length === 0;
    this.empty.hidden = length > 0;
    setText(this.empty, "No warning since the server was started.");
    setText(
      element("log-sum"),
      length === 0 ? "" : length === 1 ? "one warning" : `the last ${length} warnings`,
    );
  }
}

/** @param {Record<string, unknown>} conf */
export function showConf(conf) {
  element("conf-list").replaceChildren(
    ...Object.entries(conf).map(([key, value]) => {
      const pair = document.createElement("div");
      const term = pair.appendChild(document.createElement("dt"));
      term.textContent = key;
      const definition = pair.appendChild(document.createElement("dd"));
      definition.textContent = JSON.stringify(value);
      return pair;
    }),
  );
}

/** What page.html has under this id. @param {string} id */
export function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`page.html has no #${id}`);
  return found;
}
