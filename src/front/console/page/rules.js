// The rules on the replica that serves the page: their files as they were loaded, and what is wrong with them, at its line.

import { Problem, call, to } from "./api.js";
import { field, valuesOf } from "./dialog.js";
import { badge, code, facts, fill, h, moment, section, short, table, visible } from "./dom.js";
import { pageBar } from "./pages.js";

export const title = "Rules";
export const scope = "rules.read";

/** Lines of a file that are shown at once. */
const LINES = 500;

/** @typedef {NonNullable<import("./api.js").Rules["problems"]>[number]} RuleProblem */
/** @typedef {NonNullable<import("./api.js").Rules["files"]>[number]} RuleFile */

/** @type {import("./app.js").ViewModule["show"]} */
export function show(view) {
  const path = view.params.get("path");
  if (path) one(view, path);
  else all(view);
}

/**
 * Of a file, or of a line of it.
 * @param {string} path
 * @param {number} [line]
 */
const linkTo = (path, line) => `#/rules?${new URLSearchParams({ path, ...(line ? { line: String(line) } : {}) })}`;

/** @type {import("./app.js").ViewModule["show"]} */
function all({ main, every, signal }) {
  const results = h("div");
  main.append(results);
  every(5, async () => {
    /** @type {import("./api.js").Rules} */
    const rules = await call("GET", "v1/rule-files", undefined, { signal });
    const problems = rules.problems ?? [];
    const left = rules.problems_left_out ?? 0;
    const files = rules.files ?? [];
    // A file that never was without errors belongs to no domain in force.
    const others = [...new Set(problems.filter((of) => of.line && !files.some((file) => file.path === of.path)).map((of) => of.path))];
    fill(results,
      section("In force", facts([["Version", String(rules.version)], ["Hash", code(rules.hash)], ["Loaded", moment(rules.loaded_at)]])),
      problems.length > 0
        ? section(`Problems (${problems.length + left})`, problems.map(problemBox), left > 0 && h("p", { class: "quiet" }, `and ${left} more: tollgate check lists all`))
        : h("p", { class: "calm" }, "The files have no problems."),
      section("Files", table("Files", [{ name: "File", wide: true }, "Domain", "Holds", "State"], [...files.map((of) => [
        of.text ? link(of.path) : code(of.path),
        visible(of.domain), holds(of),
        of.kept ? badge("bad", "has errors: the last good rules stay") : badge("good", "in force"),
      ]), ...others.map((path) => [link(path), "", "", badge("bad", "has errors: not in force")])], "No file has rules.")));
  });
}

/** @param {string} path */
const link = (path) => h("a", { href: linkTo(path), "data-key": `file ${path}` }, code(path));

/** @param {RuleFile} of */
function holds(of) {
  const words = `${short(of.entries)} ${of.overrides ? "override rows" : "limits"}`;
  return of.overrides ? words : h("a", { href: `#/limits?${new URLSearchParams({ domain: of.domain })}`, "data-key": `limits ${of.path} ${of.domain}` }, words);
}

/** @param {RuleProblem} of */
function problemBox(of) {
  const at = of.line ? `${of.path}:${of.line}${of.column ? `:${of.column}` : ""}` : of.path;
  const line = of.source_line ? `${String(of.line).padStart(4)} │ ${visible(of.source_line).slice(0, 300)}${of.column ? `\n     │ ${" ".repeat(Math.min(of.column - 1, 300))}^` : ""}` : "";
  return h("div", { class: `note ${kindOf(of)}` },
    h("div", null, badge(kindOf(of), of.severity), " ", of.line ? h("a", { href: linkTo(of.path, of.line), "data-key": `problem ${at}` }, code(at)) : code(at), " ", visible(of.what)),
    line && h("pre", null, line),
    of.hint && h("div", { class: "quiet" }, visible(of.hint)));
}

/** @param {RuleProblem} of */
const kindOf = (of) => (of.severity === "error" ? "bad" : "warn");

/**
 * @param {import("./app.js").View} view
 * @param {string} path
 */
function one({ main, params, every, keep, signal }, path) {
  let wanted = Math.max(1, Number(params.get("line")) || 1);
  let first = wanted > LINES ? wanted - 10 : 1;
  let inForce = params.get("in_force") === "true";
  // What is to be seen at once, and is no more once it was.
  let isSought = params.has("line");
  let drawn = "";
  const which = field("which", "Text", { value: String(inForce), options: [["false", "as read last"], ["true", "in force"]] });
  const form = h("form", { class: "bar" }, field("line", "Go to line", { type: "number", min: "1", step: "1", value: String(wanted) }), which);
  const about = h("div");
  const text = h("div");
  main.append(h("p", null, h("a", { href: "#/rules" }, "← all files")), about, form, text);
  const go = (/** @type {number} */ line, /** @type {number} */ from) => {
    wanted = line;
    first = Math.max(1, from);
    isSought = true;
    keep({ path, line: String(line), in_force: inForce ? "true" : "" });
    now();
  };
  const now = every(5, async () => {
    /** @type {[import("./api.js").Rules, import("./api.js").RuleText | null]} */
    const [rules, lines] = await Promise.all([
      call("GET", "v1/rule-files", undefined, { signal }),
      call("GET", to("v1/rule-files/text", { path, in_force: inForce, line: first, lines: LINES }), undefined, { signal }).catch((error) => {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      }),
    ]);
    const problems = (rules.problems ?? []).filter((of) => of.path === path);
    const file = (rules.files ?? []).find((of) => of.path === path);
    // Whoever reads or copies a text isn't disturbed as long as it stays.
    const state = JSON.stringify([problems, file, lines, inForce, wanted]);
    if (state === drawn) return;
    drawn = state;
    fill(about, section(visible(path), facts([
      ["Domain", file ? visible(file.domain) : ""], ["Holds", file ? holds(file) : ""], ["Lines", lines ? String(lines.lines_total) : ""],
      ["Shown", lines ? (lines.in_force ? badge("good", "what is in force") : badge("bad", "what was read last: it has errors, and isn't in force")) : ""],
    ])), lines ? null : [h("p", { class: "note" }, "The replica keeps no text of this file. It keeps 4 MiB of text, compressed, rule files before override rows."), problems.map(problemBox)].flat());
    form.hidden = !lines;
    // Elsewhere both are the same.
    which.hidden = !file?.kept;
    fill(text, lines && source(lines));
    if (isSought) {
      isSought = false;
      const at = /** @type {HTMLElement | null} */ (text.querySelector(`[data-key="line ${wanted}"]`));
      at?.scrollIntoView({ block: "center" });
      if (!form.contains(document.activeElement)) at?.focus({ preventScroll: true });
    }

    /** @param {import("./api.js").RuleText} of */
    function source(of) {
      const lines = of.lines ?? [];
      const end = of.line + lines.length - 1;
      // Problems are those of the text that was read last.
      const here = inForce && file?.kept ? [] : problems;
      const bar = () => pageBar(
        of.line > 1 && (() => go(Math.max(1, of.line - LINES), of.line - LINES)),
        of.lines_total > lines.length ? `lines ${of.line} to ${end} of ${of.lines_total}` : "",
        end < of.lines_total && lines.length > 0 && (() => go(end + 1, end + 1)));
      return [
        here.filter((of) => !of.line).map(problemBox),
        h("section", { class: "source" },
          h("ol", { start: of.line }, lines.map((line, index) => sourceLine(line, of.line + index, here))),
          lines.length === 0 && h("p", { class: "none" }, "no line")),
        bar(),
      ].flat();
    }
  });
  const choose = () => {
    const { line, which } = valuesOf(form);
    const number = Math.max(1, Math.floor(Number(line)) || 1);
    inForce = which === "true";
    const isShown = number >= first && number < first + LINES;
    go(number, isShown ? first : number - 10);
  };
  form.addEventListener("change", choose);
  form.addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); choose(); });

  /**
   * @param {string} line
   * @param {number} number
   * @param {RuleProblem[]} problems
   */
  function sourceLine(line, number, problems) {
    const here = problems.filter((of) => of.line === number);
    const kind = here.some((of) => of.severity === "error") ? "bad" : here.length > 0 ? "warn" : number === wanted ? "sought" : null;
    return h("li", { class: kind, tabindex: "-1", "data-key": `line ${number}` }, h("code", null, visible(line)),
      here.map((of) => h("div", { class: `note ${kindOf(of)}` }, badge(kindOf(of), of.severity), ` column ${of.column} `, visible(of.what),
        of.hint && h("div", { class: "quiet" }, visible(of.hint)))));
  }
}
