// Builds what is shown. Every text of others comes in as a text node, never as markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "title"]);

/**
 * An element. Properties that begin with `on` are listeners; the others are attributes, where false and null leave one out.
 * @param {string} tag
 * @param {Record<string, any> | null} [properties]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(tag, properties, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/**
 * Puts `children` in place of what `parent` has, and keeps the focus on what has the same `data-key`.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const key = focused && parent.contains(focused) ? focused.dataset.key : undefined;
  const left = [...parent.querySelectorAll(".scroll")].map((of) => of.scrollLeft);
  parent.replaceChildren(...h("div", null, ...children).childNodes);
  parent.querySelectorAll(".scroll").forEach((of, index) => (of.scrollLeft = left[index] ?? 0));
  if (key) {
    const same = [...parent.querySelectorAll("[data-key]")];
    const found = same.find((of) => /** @type {HTMLElement} */ (of).dataset.key === key);
    /** @type {HTMLElement | undefined} */ (found)?.focus({ preventScroll: true });
  }
}

/** Characters that would not be seen, or would change the order of what stands around them. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** As many characters of a text are shown; the whole is in its title and can be copied from there. */
const SHOWN = 160;

/**
 * A text of others, fit to be read: what can't be seen is written as an escape, and a long text is cut.
 * @param {string | undefined} text
 */
export function visible(text) {
  return (text ?? "").replace(UNSEEN, (c) => `\\u{${c.charCodeAt(0).toString(16)}}`);
}

/**
 * A text of others as code, cut where it is long.
 * @param {string | undefined} text
 * @param {number} [shown]
 */
export function code(text, shown = SHOWN) {
  const all = visible(text);
  const cut = all.length > shown;
  const title = cut ? `${all.slice(0, 4000)}${all.length > 4000 ? "…" : ""}` : null;
  return h("code", { title }, cut ? `${all.slice(0, shown)}…` : all, cut && h("small", null, ` ${all.length} characters`));
}

/**
 * @typedef {object} Column
 * @property {string} name
 * @property {boolean} [number]
 * @property {boolean} [wide] it may break into lines
 */

/**
 * A table with one row for each list of cells.
 * @param {string} caption said to those who don't see it
 * @param {(string | Column)[]} columns
 * @param {Child[][]} rows
 * @param {string} [none] what stands there without rows
 */
export function table(caption, columns, rows, none = "nothing") {
  const all = columns.map((column) => (typeof column === "string" ? { name: column } : column));
  const kind = (/** @type {Column} */ column) => (column.number ? "number" : column.wide ? "wide" : null);
  if (rows.length === 0) return h("p", { class: "none" }, none);
  return h("div", { class: "scroll", tabindex: "-1" },
    h("table", null,
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, all.map((column) => h("th", { scope: "col", class: kind(column) }, column.name)))),
      h("tbody", null, rows.map((row) => h("tr", null,
        row.map((cell, index) => h("td", { class: kind(all[index]), "data-label": all[index].name }, cell)))))));
}

/**
 * @param {string} title
 * @param {...(Child | Child[])} children
 */
export function section(title, ...children) {
  return h("section", null, h("h2", null, title), ...children);
}

/**
 * A pair of a name and what it is.
 * @param {[string, Child | Child[]][]} pairs
 */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== "").map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value))));
}

/**
 * @param {"good" | "bad" | "warn" | "plain"} kind
 * @param {...Child} text
 */
export function badge(kind, ...text) {
  return h("span", { class: `badge ${kind}` }, ...text);
}

/** @param {number | undefined} rate a second */
export function rate(rate) {
  const of = rate ?? 0;
  if (of === 0) return "0";
  if (of < 0.1) return "<0.1";
  if (of < 10) return of.toFixed(1);
  return short(of);
}

/** @param {number | undefined} count */
export function short(count) {
  const of = Number(count ?? 0);
  if (of < 10_000) return String(Math.round(of));
  if (of < 1_000_000) return `${(of / 1000).toFixed(of < 100_000 ? 1 : 0)}k`;
  return `${(of / 1_000_000).toFixed(1)}M`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const of = Math.round(Math.abs(seconds));
  if (of < 120) return `${of} s`;
  if (of < 7200) return `${Math.round(of / 60)} min`;
  const minutes = Math.round(of / 60);
  if (of < 172_800) return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
  return `${Math.round(of / 86_400)} days`;
}

/**
 * A moment with how far it is from now.
 * @param {string | undefined} text RFC 3339
 */
export function moment(text) {
  if (!text) return "";
  const at = Date.parse(text);
  if (Number.isNaN(at)) return visible(text);
  const ago = (Date.now() - at) / 1000;
  const words = ago >= 0 ? `${duration(ago)} ago` : `in ${duration(ago)}`;
  return h("time", { datetime: text, title: text }, words);
}

/** @param {number} seconds */
export function windowOf(seconds) {
  const units = /** @type {const} */ ([[31_536_000, "year"], [86_400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]]);
  for (const [length, name] of units) {
    if (seconds >= length && seconds % length === 0) {
      const many = seconds / length;
      return many === 1 ? name : `${many} ${name}s`;
    }
  }
  return `${seconds} s`;
}

/**
 * A limit in words: `100 / minute, sliding_window`.
 * @param {import("./api.js").LimitNumbers | undefined} limit
 */
export function limitWords(limit) {
  if (!limit) return "";
  const words = [`${limit.requests} / ${windowOf(limit.window_seconds)}`];
  if (limit.burst !== undefined && limit.burst !== null) words.push(`burst ${limit.burst}`);
  if (limit.enforce_share) words.push(`denies ${limit.enforce_share}`);
  else if (!limit.enforce) words.push("denies nobody");
  return words.join(", ");
}
