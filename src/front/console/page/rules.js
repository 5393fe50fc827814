// The rules in force on the replica that serves the page: their files, and what is wrong with them, at its line.

import { call } from "./api.js";
import { badge, code, facts, fill, h, moment, section, short, table, visible } from "./dom.js";

export const title = "Rules";
export const scope = "rules.read";

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, every, signal }) {
  const results = h("div");
  main.append(results);
  every(5, async () => {
    /** @type {import("./api.js").Rules} */
    const rules = await call("GET", "v1/rule-files", undefined, { signal });
    const problems = rules.problems ?? [];
    const left = rules.problems_left_out ?? 0;
    fill(results,
      section("In force", facts([["Version", String(rules.version)], ["Hash", code(rules.hash)], ["Loaded", moment(rules.loaded_at)]])),
      problems.length > 0
        ? section(`Problems (${problems.length + left})`, problems.map(problemBox), left > 0 && h("p", { class: "quiet" }, `and ${left} more: tollgate check lists all`))
        : h("p", { class: "calm" }, "The files have no problems."),
      section("Files", table("Files", [{ name: "File", wide: true }, "Domain", "Holds", "State"], (rules.files ?? []).map((of) => [
        h("a", { href: `#/limits?${new URLSearchParams({ domain: of.domain })}`, "data-key": `file ${of.path} ${of.domain}` }, code(of.path)), visible(of.domain),
        `${short(of.entries)} ${of.overrides ? "override rows" : "limits"}`,
        of.kept ? badge("bad", "has errors: the last good rules stay") : badge("good", "in force"),
      ]), "No file has rules.")));
  });
}

/** @param {NonNullable<import("./api.js").Rules["problems"]>[number]} of */
function problemBox(of) {
  const at = of.line ? `${of.path}:${of.line}${of.column ? `:${of.column}` : ""}` : of.path;
  const line = of.source_line ? `${String(of.line).padStart(4)} │ ${visible(of.source_line).slice(0, 300)}${of.column ? `\n     │ ${" ".repeat(Math.min(of.column - 1, 300))}^` : ""}` : "";
  return h("div", { class: `note ${of.severity === "error" ? "bad" : "warn"}` },
    h("div", null, badge(of.severity === "error" ? "bad" : "warn", of.severity), " ", code(at), " ", visible(of.what)),
    line && h("pre", null, line),
    of.hint && h("div", { class: "quiet" }, visible(of.hint)));
}
