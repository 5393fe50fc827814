// A user: how a descriptor is answered and why, what its counters hold, and the changes that help it.

import { call, may, ofDomain, parseEntries, session, to, written } from "./api.js";
import { ask, field, reasonField, valuesOf } from "./dialog.js";
import { badge, code, duration, facts, fill, h, limitWords, moment, section, table, visible } from "./dom.js";
import { switchBadge, switchLimit } from "./switches.js";

export const title = "A user";
export const scope = "explain";

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, params, every, keep, signal }) {
  const form = h("form", { class: "bar", role: "search" },
    h("div", { class: "grow" }, field("descriptor", "Descriptor", { value: params.get("descriptor") ?? "", placeholder: "user=alice,endpoint=/login", spellcheck: "false" })),
    session.domains.length > 1 && field("domain", "Domain", { options: session.domains, value: params.get("domain") ?? session.default_domain ?? session.domains[0] }),
    h("button", { type: "submit", class: "primary" }, "Explain"));
  const results = h("div", { "aria-live": "polite" });
  main.append(form, results);
  if (!params.get("descriptor")) form.querySelector("input").focus();
  const asked = () => {
    const values = valuesOf(form);
    return { descriptor: values.descriptor ?? "", domain: values.domain ?? session.domains[0] ?? "" };
  };
  const now = every(5, async () => {
    const { descriptor, domain } = asked();
    if (descriptor === "" || descriptor !== (params.get("descriptor") ?? "") || domain !== (params.get("domain") ?? domain)) return;
    const entries = parseEntries(descriptor);
    /** @type {import("./api.js").Explanation} */
    const answer = await call("POST", "v1/explain", { domain, descriptors: [{ entries }] }, { signal });
    fill(results, explained(answer, { domain, entries }, () => now()));
  });
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const { descriptor, domain } = asked();
    params.set("descriptor", descriptor);
    params.set("domain", domain);
    // A long value stays in the field: no address is as long.
    keep(descriptor.length <= 2_000 ? { descriptor, domain } : {});
    now();
  });
}

/** @typedef {{domain: string, entries: {key: string, value: string}[]}} Asked */

/**
 * @param {import("./api.js").Explanation} answer
 * @param {Asked} asked
 * @param {() => void} again
 */
function explained(answer, asked, again) {
  const allowed = answer.answer?.allowed;
  const degraded = answer.answer?.degraded;
  return [
    h("div", { class: `note ${answer.store_error ? "bad" : allowed ? "good" : "bad"}` },
      h("p", { class: "verdict" }, answer.store_error ? `The store can't say: ${visible(answer.store_error)}` : allowed
        ? "A request is admitted now." : ["A request is refused now", answer.answer?.limit_id ? [" by ", code(answer.answer.limit_id)] : null, "."].flat()),
      degraded ? h("p", null, `Decided by the failure policy: ${visible(degraded)}`) : null,
      !allowed && answer.answer?.retry_after_seconds ? h("p", null, `It may try again in ${duration(answer.answer.retry_after_seconds)}.`) : null,
      actions(answer, asked, again)),
    (answer.descriptors ?? []).map((of) => descriptorSection(of, asked, again)),
  ].flat();
}

/**
 * @param {import("./api.js").Explanation} answer
 * @param {Asked} asked
 * @param {() => void} again
 */
function actions(answer, asked, again) {
  const counters = (answer.descriptors ?? []).flatMap((of) => of.counters ?? []);
  const raised = may("overrides.write", asked.domain) && counters.length > 0;
  const resets = may("counters.reset", asked.domain) && counters.length > 0;
  if (!raised && !resets) return null;
  return h("div", { class: "row" },
    raised && h("button", { type: "button", "data-key": "raise", onclick: () => raise(answer, asked, again) }, "Raise for 4 hours…"),
    resets && h("button", { type: "button", "data-key": "reset", onclick: () => reset(asked, again) }, "Reset counters…"));
}

/** Bytes of text as an id has them; the same as the command line makes. @param {string} text */
function inId(text) {
  return [...new TextEncoder().encode(text)].map((byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9._@-]/.test(character) ? character : `~${byte.toString(16).padStart(2, "0")}`;
  }).join("");
}

/**
 * The id of an override for these entries: that of the command line where it is plain, else one with a digest.
 * @param {{key: string, value: string}[]} entries
 * @param {string} rule
 */
async function idOf(entries, rule) {
  const plain = entries.length === 1 ? `${inId(entries[0].key)}:${inId(entries[0].value)}` : "";
  if (plain && plain.length <= 128) return plain;
  const bytes = new TextEncoder().encode(JSON.stringify([rule, entries]));
  // A page that came in the clear from another host than this machine has no digests.
  const digest = crypto.subtle ? [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, 32) : Date.now().toString(36);
  return `console~${digest}`;
}

/** What a match must have so that stars in a value are no pattern. @param {string} value */
const literal = (value) => value.replace(/[\\*]/g, "\\$&");

/**
 * @param {import("./api.js").Explanation} answer
 * @param {Asked} asked
 * @param {() => void} again
 */
function raise(answer, { domain, entries }, again) {
  const of = (answer.descriptors ?? [])[0];
  const limits = (of?.counters ?? []).map((counter) => counter.limit).filter((limit) => limit !== undefined);
  const now = limits[0];
  if (!now) return;
  const rule = of?.rule ?? "";
  const path = async () => `${ofDomain(domain)}/overrides/${encodeURIComponent(await idOf(entries, rule))}`;
  const spec = (/** @type {Record<string, string>} */ values) => ({
    match: entries.map(({ key, value }) => ({ key, value: literal(value) })),
    ...(entries.length > 1 && rule ? { rule } : {}),
    limit: limits.map((limit) => ({
      requests: Math.min(4_294_967_295, Math.ceil(limit.requests * Number(values.factor))), window: `${limit.window_seconds}s`, algorithm: limit.algorithm,
      ...(limit.name ? { name: limit.name } : {}),
    })),
    for: values.for, reason: values.reason,
  });
  ask({
    title: `Raise the limit of ${visible(written(entries)).slice(0, 200)}`,
    about: h("p", null, `Now it has ${limits.map(limitWords).join("; ")}. For this descriptor alone, on all replicas; it ends by itself.`),
    fields: [field("factor", "To how many times as many", { type: "number", min: "1", step: "any", value: "10", required: true }),
      field("for", "For", { value: "4h", options: ["1h", "4h", "8h", "1d", "7d"] }), reasonField()],
    action: "Raise",
    preview: async (values) => {
      const answer = await call("PUT", to(await path(), { dry_run: true }), { ...spec(values), reason: values.reason || "a look" });
      return h("p", null, "Then: ", (answer.limits ?? []).map(limitWords).join("; "), (answer.warnings ?? []).map((/** @type {string} */ of) => h("span", { class: "line" }, visible(of))));
    },
    run: async (values) => {
      const saved = await call("PUT", await path(), spec(values));
      again();
      return `raised to ${(saved.limits ?? []).map(limitWords).join("; ")} for ${values.for}`;
    },
  });
}

/**
 * @param {Asked} asked
 * @param {() => void} again
 */
function reset({ domain, entries }, again) {
  const body = (/** @type {string} */ reason) => ({ domain, entries, reason });
  ask({
    title: `Reset the counters of ${visible(written(entries)).slice(0, 200)}`,
    about: h("p", null, "They begin afresh: what was counted is forgotten, on all replicas."),
    fields: [reasonField()],
    action: "Reset",
    danger: true,
    preview: async () => {
      const answer = await call("POST", "v1/counters:reset", { ...body("a look"), dry_run: true });
      return h("ul", null, (answer.counters ?? []).map((/** @type {{limit_id: string}} */ of) => h("li", null, code(of.limit_id))));
    },
    run: async ({ reason }) => {
      const answer = await call("POST", "v1/counters:reset", body(reason));
      again();
      return `${(answer.counters ?? []).length} counters were reset`;
    },
  });
}

/**
 * @param {import("./api.js").ExplainedDescriptor} of
 * @param {Asked} asked
 * @param {() => void} again
 */
function descriptorSection(of, asked, again) {
  const steps = (of.steps ?? []).map((step) => h("li", null, code(`${step.key}=${step.value}`), " ", STEPS[step.how] ?? step.how, step.pattern ? [" ", code(step.pattern)] : null));
  return section("Why",
    h("p", null, visible(of.verdict)),
    facts([
      ["Rule", of.rule ? code(of.rule) : ""], ["Place", of.place ? code(of.place) : ""],
      ["Switched", (of.switches ?? []).length > 0 ? (of.switches ?? []).map((one) => switchBadge(one)) : ""],
    ]),
    steps.length > 0 && h("details", null, h("summary", null, "How the rule was found"), h("ol", { class: "steps" }, steps)),
    of.override && overrideBox("Override", of.override, asked.domain),
    h("h3", null, "Counters"),
    counterTable(of.counters ?? [], asked, again),
    (of.passed_over ?? []).map((one) => overrideBox("Passed over", one, asked.domain)));
}

/** @type {Record<string, string>} */
const STEPS = {
  exact: "by its value", pattern: "by the pattern", key_only: "by its key alone", unknown_key: "has no rule", unknown_value: "has a value without a rule", too_deep: "is deeper than the rules go",
};

/**
 * @param {string} name
 * @param {import("./api.js").ExplainedOverride} of
 * @param {string} domain
 */
function overrideBox(name, of, domain) {
  const id = of.id && may("overrides.read", domain)
    ? h("a", { href: `#/overrides?${new URLSearchParams({ domain, id: of.id })}`, "data-key": `override ${of.id}` }, code(of.id)) : of.id ? code(of.id) : "";
  return h("div", null, h("h3", null, name), facts([
    ["Set", of.source === "file" ? "in a file" : "while running"], ["Id", id], ["Place", of.place ? code(of.place) : ""], ["Match", code(written(of.match))],
    ["Ends", moment(of.expires)], ["Reason", visible(of.reason)], ["Owner", visible(of.owner)], ["Why not", visible(of.why)], ["Warning", visible(of.warning)],
  ]));
}

/**
 * @param {import("./api.js").ExplainedCounter[]} counters
 * @param {Asked} asked
 * @param {() => void} again
 */
function counterTable(counters, { domain }, again) {
  const number = (/** @type {string} */ name) => ({ name, number: true });
  const rows = counters.map((of) => [
    h("a", { href: `#/limits?${new URLSearchParams({ domain, limit: of.limit_id })}`, "data-key": `limit ${of.limit_id}` }, code(of.limit_id, 80)),
    of.admits === undefined || of.admits === null ? badge("plain", "unknown") : of.admits ? badge("good", "admits") : badge(of.role === "shadow" ? "warn" : "bad", of.role === "shadow" ? "would refuse" : "refuses"),
    limitWords(of.limit),
    of.holds ? of.holds.hits : "", of.remaining ?? "", of.reset_seconds === undefined ? "" : duration(of.reset_seconds),
    code(of.key, 80),
    may("limits.write", domain) && of.limit_id && !of.limit_id.includes("/(") ? h("button", { type: "button", "data-key": `switch ${of.limit_id}`, onclick: () => switchLimit({ domain, limit_id: of.limit_id }, again) }, "Switch…") : "",
  ]);
  return table("Counters", ["Limit", "Now", "Allows", number("Holds"), number("Remaining"), number("Resets in"), "Key", ""], rows, "No limit counts it.");
}

