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
  const path = (/** @type {number[]} */ values) => values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const drawn = lines.filter((line) => line.values.length > 0);
  const last = (/** @type {Line} */ line) => `${text(line.values.at(-1) ?? 0)}${line.unit ?? unit}`;
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
        drawn.map((line) => [
          line.area && h("path", { class: `area ${line.kind}`, d: `${path(line.values)}L${WIDTH} ${HEIGHT}L${x(0).toFixed(1)} ${HEIGHT}Z` }),
          h("path", { class: `line ${line.kind}`, d: path(line.values) }),
        ]).flat())),
    h("div", { class: "clocks" }, clocks.map((clock) => h("span", null, clock))));
}
