// Lists that come from the server in pages, and the form that asks for them.

import { valuesOf } from "./dialog.js";
import { h } from "./dom.js";

/** How many rows a page has. */
export const PAGE = 100;

/**
 * The page of a list that is shown. What is typed into `form` begins the list anew.
 * @param {HTMLFormElement} form
 * @param {import("./app.js").View["keep"]} keep
 * @param {() => void} read shows the page that is now asked for
 */
export function pages(form, keep, read) {
  let token = "";
  /** @type {string[]} */
  const before = [];
  const anew = () => {
    token = "";
    before.length = 0;
    keep(valuesOf(form));
    read();
  };
  form.addEventListener("input", anew);
  form.addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); anew(); });
  return {
    /** The part of a call that asks for it. */
    parameters: () => ({ page_size: PAGE, page_token: token }),
    /**
     * The way to the pages beside it.
     * @param {string | undefined} next the token of the next page
     * @param {(from: number) => string} [words] what is said of it, where the number of its first row is known
     */
    bar: (next, words) => pageBar(
      before.length > 0 && (() => { token = before.pop() ?? ""; read(); }),
      words?.(before.length * PAGE + 1) ?? "",
      next && (() => { before.push(token); token = next; read(); })),
  };
}

/**
 * @param {(() => void) | false | "" | undefined} back
 * @param {string} words
 * @param {(() => void) | false | "" | undefined} next
 */
export function pageBar(back, words, next) {
  return h("div", { class: "row end" }, words && h("span", { class: "quiet" }, words),
    back && h("button", { type: "button", "data-key": "back", onclick: back }, "Back"),
    next && h("button", { type: "button", "data-key": "more", onclick: next }, "Next"));
}
