// The plots: each a card with its values as text, drawn from the moments that the server keeps.

import * as format from "./format.js";
import { element, setText } from "./tables.js";

/**
 * @typedef {import("uplot")} Plot
 * @typedef {{ name: string, label: string, color: string, faint?: boolean }} Line
 * @typedef {{ title: string, lines: readonly Line[], show: (n: format.Value) => string, needs?: string, whole?: boolean }} Sort
 */

/** @type {typeof import("uplot")} */
const uPlot = Reflect.get(globalThis, "uPlot");

/** @type {readonly Sort[]} */
const SORTS = [
  {
    title: "Connections",
    lines: [{ name: "connections", label: "", color: "--one" }],
    whole: true,
    show: format.count,
  },
  {
    title: "Messages in",
    lines: [{ name: "published", label: "", color: "--one" }],
    show: format.rate,
  },
  {
    title: "Messages out",
    lines: [{ name: "delivered", label: "", color: "--two" }],
    show: format.rate,
  },
  {
    title: "Bytes",
    lines: [
      { name: "bytes_in", label: "in", color: "--one" },
      { name: "bytes_out", label: "out", color: "--two" },
    ],
    show: format.byteRate,
  },
  {
    title: "Time to publish",
    lines: [
      { name: "publish_p99_ms", label: "99 %", color: "--one" },
      { name: "publish_p50_ms", label: "median", color: "--one", faint: true },
    ],
    show: format.ms,
  },
  {
    title: "Time to deliver",
    lines: [
      { name: "delivery_p99_ms", label: "99 %", color: "--two" },
      { name: "delivery_p50_ms", label: "median", color: "--two", faint: true },
    ],
    show: format.ms,
  },
  {
    title: "Event-loop lag",
    lines: [{ name: "lag_ms", label: "", color: "--three" }],
    show: format.ms,
  },
  {
    title: "Memory",
    lines: [
      { name: "resident_bytes", label: "resident", color: "--three" },
      { name: "heap_bytes", label: "heap", color: "--three", faint: true },
    ],
    show: format.bytes,
  },
  {
    title: "Processor, of one core",
    lines: [{ name: "cpu_percent", label: "", color: "--three" }],
    show: format.percent,
  },
  {
    title: "Waiting for the store",
    lines: [{ name: "storage_pending", label: "", color: "--three" }],
    whole: true,
    show: format.count,
  },
  {
    title: "Between nodes",
    needs: "s2s",
    lines: [
      { name: "s2s_received", label: "in", color: "--one" },
      { name: "s2s_forwarded", label: "out", color: "--two" },
    ],
    show: format.rate,
  },
];

/** Steps of what comes in whole numbers. */
const WHOLE = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap((n) => [n, 2 * n, 5 * n]);
/** Between two drawings: a pixel is some four seconds, and the numbers change each second. */
const DRAW_MS = 2900;
/** Where the person wants little to move. */
const CALM_MS = 9900;

const wantsCalm = matchMedia("(prefers-reduced-motion: reduce)");

/** The moments of the last quarter of an hour: times in seconds, and a column for each series. */
class History {
  /** @type {string[]} */
  series = [];
  /** @type {number[]} */
  times = [];
  /** @type {(number | null)[][]} */
  columns = [];
  spanS = 900;

  /** @param {any} hello see live_feed.ts */
  begin({ series, rows, step_ms, capacity }) {
    this.series = series;
    this.spanS = (step_ms * capacity) / 1000;
    this.times = rows.map((/** @type {number[]} */ row) => row[0] / 1000);
    this.columns = series.map((/** @type {string} */ _, /** @type {number} */ i) =>
      rows.map((/** @type {(number | null)[]} */ row) => row[i + 1])
    );
  }

  /** @param {readonly (number | null)[]} row */
  add([time, ...values]) {
    const timeS = (time ?? 0) / 1000;
    const lastS = this.times.at(-1) ?? 0;
    // A clock that was put back; the server has begun anew, too.
    if (timeS <= lastS) this.#keep(0);
    // The line is not drawn across the time in which the server stood still.
    else if (lastS > 0 && timeS - lastS > 2.5) this.#push(lastS + 1, values.map(() => null));
    this.#push(timeS, values);
    this.#keep(900);
  }

  /** @param {number} timeS @param {(number | null)[]} values */
  #push(timeS, values) {
    this.times.push(timeS);
    this.columns.forEach((column, i) => column.push(values[i]));
  }

  /** @param {number} count */
  #keep(count) {
    const over = this.times.length - count;
    if (over <= 0) return;
    for (const column of [this.times, ...this.columns]) column.splice(0, over);
  }

  /** @param {string} name @returns {(number | null)[]} */
  column(name) {
    return this.columns[this.series.indexOf(name)] ?? [];
  }
}

/** One plot, its title and its values. */
class Card {
  /** @type {Plot | null} */
  plot = null;
  isSeen = false;
  /** The moment under the cursor; null for the newest. @type {number | null} */
  at = null;

  /** @param {Sort} sort @param {History} history @param {Cards} cards */
  constructor(sort, history, cards) {
    this.sort = sort;
    this.history = history;
    this.cards = cards;
    this.place = document.createElement("article");
    this.place.className = "card";
    const title = this.place.appendChild(document.createElement("h3"));
    title.textContent = sort.title;
    const values = this.place.appendChild(document.createElement("p"));
    values.className = sort.lines.length > 1 ? "values several" : "values";
    this.values = sort.lines.map((line) => {
      const value = values.appendChild(document.createElement("span"));
      value.style.setProperty("--line", `var(${line.color})`);
      if (line.faint) value.className = "faint";
      if (line.label !== "") {
        const label = value.appendChild(document.createElement("i"));
        label.textContent = line.label;
      }
      const number = value.appendChild(document.createElement("b"));
      number.textContent = "–";
      return number;
    });
    this.figure = this.place.appendChild(document.createElement("div"));
    this.figure.className = "plot";
    this.figure.setAttribute("role", "img");
    this.figure.setAttribute("aria-label", `${sort.title}: nothing yet`);
  }

  /** @returns {import("uplot").AlignedData} */
  get data() {
    return [this.history.times, ...this.sort.lines.map(({ name }) => this.history.column(name))];
  }

  /** The newest values, or those under the cursor, as text. */
  showValues() {
    const shown = this.sort.lines.map(({ name }) => {
      const column = this.history.column(name);
      return this.sort.show(this.at === null ? column.at(-1) : column[this.at]);
    });
    this.values.forEach((value, i) => setText(value, shown[i]));
    if (this.at !== null) return;
    const said = this.sort.lines.map(({ label }, i) => `${label} ${shown[i]}`.trim()).join(", ");
    const label = `${this.sort.title}, plot of the last 15 minutes; now ${said}`;
    this.figure.setAttribute("aria-label", label);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.figure;
    if (width === 0) return;
    if (this.plot === null) {
      this.plot = new uPlot({ width, height, ...this.#options() }, this.data, this.figure);
    } else {
      this.plot.setData(this.data);
    }
  }

  #options() {
    const { cards } = this;
    const axis = {
      font: "11px system-ui, sans-serif",
      stroke: () => cards.color("--soft"),
      ticks: { show: false },
      border: { show: false },
    };
    /** @type {Omit<import("uplot").Options, "width" | "height">} */
    const options = {
      legend: { show: false },
      padding: [6, 18, 0, 0],
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 6 },
        sync: { key: "moment" },
      },
      scales: {
        x: {
          range: () => {
            const endS = this.history.times.at(-1) ?? Date.now() / 1000;
            return [endS - this.history.spanS, endS];
          },
        },
        y: { range: (_, _min, max) => [0, max > 0 ? max * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 20,
          gap: 4,
          space: 70,
          grid: { show: false },
          incrs: [60, 300, 600, 900],
          values: (_, splits) => splits.map((s) => format.minuteOf(s * 1000)),
        },
        {
          ...axis,
          size: 40,
          gap: 4,
          space: 20,
          incrs: this.sort.whole ? WHOLE : undefined,
          grid: { stroke: () => cards.color("--rule"), width: 1 },
          values: (_, splits) => splits.map(format.short),
        },
      ],
      series: [
        {},
        ...this.sort.lines.map(({ color, faint }) => ({
          stroke: () => cards.color(color),
          width: faint ? 1 : 1.5,
          dash: faint ? [3, 3] : undefined,
          points: { show: false },
        })),
      ],
      hooks: {
        setCursor: [(/** @type {Plot} */ plot) => this.#onCursor(plot.cursor.idx ?? null)],
      },
    };
    return options;
  }

  /** @param {number | null} at */
  #onCursor(at) {
    if (at === this.at) return;
    this.at = at;
    this.showValues();
    this.cards.onCursor(at);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.figure;
    if (this.plot === null && this.isSeen) this.draw();
    else if (width > 0) this.plot?.setSize({ width, height });
  }
}

/** All plots. */
export class Cards {
  history = new History();
  /** @type {Card[]} */
  cards = [];
  /** @type {Map<string, string>} */
  #colors = new Map();
  #drawnMs = 0;

  constructor() {
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = this.cards.find(({ place }) => place === target);
        if (card === undefined) continue;
        card.isSeen = isIntersecting;
        if (isIntersecting) card.draw();
      }
    });
    const sized = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        this.cards.find(({ figure }) => figure === target)?.resize();
      }
    });
    for (const sort of SORTS) {
      const card = new Card(sort, this.history, this);
      card.place.hidden = sort.needs !== undefined;
      this.cards.push(card);
      element("cards").append(card.place);
      seen.observe(card.place);
      sized.observe(card.figure);
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#colors.clear();
      for (const { plot } of this.cards) plot?.redraw();
    });
    document.addEventListener("visibilitychange", () => this.#draw());
  }

  /** The value of a colour of page.css. @param {string} name */
  color(name) {
    const known = this.#colors.get(name);
    if (known !== undefined) return known;
    const color = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    this.#colors.set(name, color);
    return color;
  }

  /** @param {any} hello see live_feed.ts */
  begin(hello) {
    this.history.begin(hello);
    for (const { place, sort } of this.cards) {
      place.hidden = sort.needs !== undefined && hello.has[sort.needs] !== true;
    }
    this.#drawnMs = 0;
    this.#show();
  }

  /** @param {readonly (number | null)[]} row */
  add(row) {
    this.history.add(row);
    this.#show();
  }

  #show() {
    for (const card of this.cards) card.showValues();
    const nowMs = performance.now();
    const pauseMs = wantsCalm.matches ? CALM_MS : DRAW_MS;
    if (this.#drawnMs > 0 && nowMs - this.#drawnMs < pauseMs) return;
    this.#drawnMs = nowMs;
    this.#draw();
  }

  #draw() {
    if (document.hidden) return;
    for (const card of this.cards) if (card.isSeen) card.draw();
  }

  /** @param {number | null} at */
  onCursor(at) {
    const timeS = at === null ? undefined : this.history.times[at];
    const text = timeS === undefined ? "the last 15 minutes" : `at ${format.timeOf(timeS * 1000)}`;
    setText(element("at"), text);
  }
}
