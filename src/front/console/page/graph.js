// Graphs of an hour: lines over slots of time, drawn as SVG.

import { h } from "./dom.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {number[]} values
 * @property {string} kind its colour
 * @property {boolean} [area]
 * @property {string} [unit] where it is another than the graph's
 */

const WIDTH = 360;
const HEIGHT = 96;
const TOP = 4;

/** The next number that is easy to read. @param {number} of */
function above(of) {
  if (!(of > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(of));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= of) ?? of;
}

/**
 * The drawing of a line. Where a value isn't known, which is below 0, it has a gap.
 * @param {Line} line
 * @param {(index: number) => number} x
 * @param {(value: number) => number} y
 * @param {number} bottom
 */
function paths({ values, kind, area }, x, y, bottom) {
  /** @type {number[][]} */
  const runs = [];
  values.forEach((value, index) => {
    if (value < 0) return;
    if (index === 0 || values[index - 1] < 0) runs.push([]);
    runs.at(-1)?.push(index);
  });
  const at = (/** @type {number} */ index) => x(index).toFixed(1);
  // One value alone is a dot.
  const path = (/** @type {number[]} */ run) => run.map((index, of) => `${of ? "L" : "M"}${at(index)} ${y(values[index]).toFixed(1)}`).join("") + (run.length === 1 ? "h.1" : "");
  return [
    area && h("path", { class: `area ${kind}`, d: runs.map((run) => `${path(run)}L${at(run[run.length - 1])} ${bottom}L${at(run[0])} ${bottom}Z`).join("") }),
    h("path", { class: `line ${kind}`, d: runs.map(path).join("") }),
  ];
}

const SMALL_WIDTH = 118;
const SMALL_HEIGHT = 20;

/**
 * The minutes of the last hour, small enough for a row: what it shows is said in words too.
 * @param {Line[]} lines the last value of each is the minute that has begun
 * @param {(value: number) => string} text how a value is written
 */
export function small(lines, text) {
  const length = Math.max(...lines.map((line) => line.values.length));
  const most = Math.max(0, ...lines.flatMap((line) => line.values)) || 1;
  const x = (/** @type {number} */ index) => SMALL_WIDTH - 1 - (length - 1 - index) * ((SMALL_WIDTH - 2) / 59);
  const y = (/** @type {number} */ value) => 2 + (1 - value / most) * (SMALL_HEIGHT - 3);
  const words = lines.map(({ name, values }) => {
    const greatest = Math.max(0, ...values);
    const ago = values.length - 1 - values.lastIndexOf(greatest);
    return `${name} at most ${text(greatest)} a second${greatest > 0 ? `, ${ago === 0 ? "in this minute" : ago === 1 ? "1 minute ago" : `${ago} minutes ago`}` : ""}`;
  }).join("; ");
  return h("svg", { class: "small", viewBox: `0 0 ${SMALL_WIDTH} ${SMALL_HEIGHT}`, role: "img", "aria-label": words },
    h("title", null, words),
    h("line", { class: "grid", x1: 0, x2: SMALL_WIDTH, y1: SMALL_HEIGHT - 0.5, y2: SMALL_HEIGHT - 0.5 }),
    lines.map((line) => paths(line, x, y, SMALL_HEIGHT - 0.5)).flat());
}

/**
 * @param {string} title
 * @param {Line[]} lines
 * @param {{begins: string, slot_seconds: number}} time
 * @param {(value: number) => string} text how a value is written
 * @param {string} [unit]
 */
export function graph(title, lines, time, text, unit = "") {
  const slots = 360;
  const most = above(Math.max(0, ...lines.flatMap((line) => line.values)));
  const length = Math.max(0, ...lines.map((line) => line.values.length));
  const ends = Date.parse(time.begins) + length * time.slot_seconds * 1000;
  const x = (/** @type {number} */ index) => WIDTH - (length - 1 - index) * (WIDTH / (slots - 1));
  const y = (/** @type {number} */ value) => TOP + (1 - value / most) * (HEIGHT - TOP);
  const drawn = lines.filter((line) => line.values.length > 0);
  const last = (/** @type {Line} */ line) => {
    const value = line.values.at(-1) ?? 0;
    return value < 0 ? "?" : `${text(value)}${line.unit ?? unit}`;
  };
  const said = drawn.map((line) => `${line.name} ${last(line)}`).join(", ") || "nothing yet";
  const quarters = [0, 1, 2, 3].map((quarter) => {
    const at = WIDTH * quarter / 4;
    return h("line", { class: "grid", x1: at, x2: at, y1: 0, y2: HEIGHT });
  });
  const clocks = [60, 45, 30, 15].map((minutes) => (Number.isNaN(ends) ? "" : new Date(ends - minutes * 60_000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
  return h("figure", { class: "graph" },
    h("figcaption", null, h("strong", null, title), drawn.map((line) =>
      h("span", { class: `key ${line.kind}` }, line.name, " ", h("b", null, last(line))))),
    h("div", { class: "plot" },
      h("span", { class: "most" }, `${text(most)}${unit}`),
      h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, the last hour: ${said}`, preserveAspectRatio: "none" },
        quarters,
        h("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
        drawn.map((line) => paths(line, x, y, HEIGHT)).flat())),
    h("div", { class: "clocks" }, clocks.map((clock) => h("span", null, clock))));
}
