// What was changed, by whom and why: overrides, switches, resets, and reloads of the rules.

import { call, session, to } from "./api.js";
import { field, valuesOf } from "./dialog.js";
import { badge, code, fill, h, moment, section, table, visible } from "./dom.js";

export const title = "Changes";
export const scope = "audit.read";

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, params, every, keep, signal }) {
  const domains = /** @type {[string, string][]} */ ([["", "all domains"], ...session.domains.map((of) => [of, of])]);
  const form = h("form", { class: "bar", role: "search" },
    field("since", "Since", { value: params.get("since") ?? "24h", options: [["1h", "1 hour"], ["8h", "8 hours"], ["24h", "1 day"], ["7d", "7 days"], ["30d", "30 days"]] }),
    domains.length > 2 && field("domain", "Domain", { value: params.get("domain") ?? "", options: domains }),
    h("div", { class: "grow" }, field("text", "Containing", { type: "search", value: params.get("text") ?? "", placeholder: "a limit, a name, a ticket" })));
  const results = h("div");
  main.append(form, results);
  const now = every(5, async () => {
    const { text, ...query } = valuesOf(form);
    /** @type {import("./api.js").Change[]} */
    const changes = (await call("GET", to("v1/changes", { ...query, page_size: 500 }), undefined, { signal })).changes ?? [];
    const wanted = (text ?? "").toLowerCase();
    const found = changes.filter((of) => [of.action, of.domain, of.target, of.by, of.reason, of.before, of.after].some((part) => part?.toLowerCase().includes(wanted)));
    fill(results, section("Changes", table("Changes", ["When", "What", { name: "Target", wide: true }, "By", { name: "Reason", wide: true }, { name: "Before", wide: true }, { name: "After", wide: true }],
      found.map((of) => [moment(of.at), badge("plain", visible(of.action)), code(of.target || of.domain, 90), visible(of.by), visible(of.reason), words(of.before), words(of.after)]),
      "Nothing was changed.")));
    if (changes.length === 500) results.append(h("p", { class: "quiet" }, "The newest 500 are searched."));
  });
  form.addEventListener("input", () => { keep(valuesOf(form)); now(); });
  form.addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); now(); });
}

/**
 * What it was or is, short, with moments to the second.
 * @param {string | undefined} text
 */
function words(text) {
  return visible(text).replace(/(\d\d:\d\d:\d\d)\.\d+Z/g, "$1Z").slice(0, 400);
}
