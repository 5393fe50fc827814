// Overrides that were set while running: search, set, delete.

import { Problem, call, may, ofDomain, parseEntries, session, to, written } from "./api.js";
import { ask, field, reasonField, valuesOf } from "./dialog.js";
import { badge, code, fill, h, limitWords, moment, section, table, visible } from "./dom.js";
import { pages } from "./pages.js";

export const title = "Overrides";
export const scope = "overrides.read";

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, params, every, keep, signal }) {
  const domain = params.get("domain") ?? session.default_domain ?? session.domains[0] ?? "";
  const form = h("form", { class: "bar", role: "search" },
    field("key", "Key", { type: "search", value: params.get("key") ?? "", placeholder: "user" }),
    h("div", { class: "grow" }, field("value_prefix", "Value begins with", { type: "search", value: params.get("value_prefix") ?? "", placeholder: "alice (with a key)" })),
    session.domains.length > 1 && field("domain", "Domain", { options: session.domains, value: domain }),
    field("id", "Or its id", { type: "search", value: params.get("id") ?? "", placeholder: "user:alice" }));
  const controls = h("div", { class: "row" });
  const results = h("div");
  main.append(form, controls, results);
  const chosen = () => valuesOf(form).domain ?? domain;
  const list = pages(form, keep, () => now());
  const now = every(10, async () => {
    const { key, value_prefix, id } = valuesOf(form);
    const of = chosen();
    fill(controls, may("overrides.write", of) && h("button", { type: "button", class: "primary", "data-key": "new", onclick: () => edit(of, null, () => now()) }, "Set an override…"));
    if (id) {
      /** @type {import("./api.js").OverridePage} */
      let page = {};
      try { page = { overrides: [await call("GET", `${ofDomain(of)}/overrides/${encodeURIComponent(id)}`, undefined, { signal })] }; } catch (error) {
        if (!(error instanceof Problem) || error.status !== 404) throw error;
      }
      fill(results, overrideTable(page, of, () => now()));
      return;
    }
    const page = await found({ key, value_prefix: key ? value_prefix : "", ...list.parameters() }, (query) => call("GET", to(`${ofDomain(of)}/overrides`, query), undefined, { signal }));
    fill(results, overrideTable(page, of, () => now()), list.bar(page.next_page_token));
  });
}

/**
 * A full page. The service looks at so many overrides in one call, however few of them are asked for.
 * @param {{page_size: number, page_token: string, key: string, value_prefix: string}} query
 * @param {(query: Record<string, string | number>) => Promise<import("./api.js").OverridePage>} read
 */
async function found(query, read) {
  /** @type {NonNullable<import("./api.js").OverridePage["overrides"]>} */
  const overrides = [];
  let token = query.page_token;
  do {
    const page = await read({ ...query, page_size: query.page_size - overrides.length, page_token: token });
    overrides.push(...(page.overrides ?? []));
    token = page.next_page_token ?? "";
  } while (token && overrides.length < query.page_size);
  return { overrides, next_page_token: token };
}

/**
 * @param {import("./api.js").OverridePage} page
 * @param {string} domain
 * @param {() => void} again
 */
function overrideTable(page, domain, again) {
  const rows = (page.overrides ?? []).map((of) => [
    h("a", { href: `#/user?${new URLSearchParams({ domain, descriptor: written(of.spec?.match) })}`, "data-key": `match ${of.id}` }, code(written(of.spec?.match), 90)),
    of.unlimited ? badge("warn", "unlimited") : (of.limits ?? []).map(limitWords).join("; "),
    of.spec?.expires ? moment(of.spec.expires) : "never",
    code(of.id, 40), visible(of.updated_by), moment(of.updated_at),
    h("span", null, visible(of.spec?.reason), (of.warnings ?? []).map((what) => h("span", null, " ", badge("warn", visible(what))))),
    may("overrides.write", domain) && h("span", { class: "row" },
      h("button", { type: "button", "data-key": `edit ${of.id}`, onclick: () => edit(domain, of, again) }, "Change…"),
      h("button", { type: "button", "data-key": `delete ${of.id}`, onclick: () => remove(domain, of, again) }, "Delete…")),
  ]);
  return section("Overrides", table("Overrides", [{ name: "Match", wide: true }, "Allows", "Ends", "Id", "By", "Set", { name: "Reason", wide: true }, ""], rows, "No override matches."));
}

/** As the command line makes it of one plain entry; else nothing. @param {string} match */
function idFor(match) {
  try {
    const entries = parseEntries(match);
    const text = entries.map(({ key, value }) => `${key}:${value}`).join("~");
    return entries.length === 1 && /^[A-Za-z0-9._@:-]{1,128}$/.test(text) ? text : "";
  } catch {
    return "";
  }
}

/**
 * Asks for an override, new or as it is to be.
 * @param {string} domain
 * @param {import("./api.js").Override | null} of
 * @param {() => void} again
 */
function edit(domain, of, again) {
  const now = of?.limits?.[0];
  const match = field("match", "Match", { required: true, value: written(of?.spec?.match), placeholder: "user=alice", spellcheck: "false", readonly: of !== null });
  const id = field("id", "Id", { value: of?.id ?? "", placeholder: "made of the match, if it is one plain entry", readonly: of !== null, spellcheck: "false" });
  const spec = (/** @type {Record<string, string>} */ values) => ({
    match: parseEntries(values.match), ...(of?.spec?.rule ? { rule: of.spec.rule } : {}),
    limit: values.kind === "unlimited" ? [{ unlimited: true }] : [{ requests: Number(values.requests), window: values.window }],
    ...(values.for ? { for: values.for } : {}), reason: values.reason,
  });
  const path = (/** @type {Record<string, string>} */ values) => {
    const named = values.id || idFor(values.match);
    if (!named) throw new Problem(0, "give it an id: 1 to 128 letters, digits and -._~:@");
    return `${ofDomain(domain)}/overrides/${encodeURIComponent(named)}`;
  };
  const headers = /** @type {Record<string, string>} */ (of ? { "if-match": `"${of.etag}"` } : { "if-none-match": "*" });
  ask({
    title: of ? `Change ${visible(of.id)}` : `Set an override in ${domain}`,
    about: (of?.limits ?? []).length > 1 ? h("p", { class: "note warn" }, "It has several limits now; this sets one in their place.") : undefined,
    fields: [match, id,
      field("kind", "Allows", { value: of?.unlimited ? "unlimited" : "limit", options: [["limit", "so many requests"], ["unlimited", "any number"]] }),
      field("requests", "Requests", { type: "number", min: "0", step: "1", value: String(now?.requests ?? 100) }),
      field("window", "In each", { value: now ? `${now.window_seconds}s` : "1h", hint: "such as 1s, 1m, 1h, 1d" }),
      field("for", "For", { value: "4h", options: [["1h", "1h"], ["4h", "4h"], ["8h", "8h"], ["1d", "1d"], ["7d", "7d"], ["30d", "30d"], ["", "ever"]] }), reasonField()],
    action: of ? "Change" : "Set",
    preview: async (values) => {
      if (!values.match) return null;
      const answer = await call("PUT", to(path(values), { dry_run: true }), { ...spec(values), reason: values.reason || "a look" }, { headers });
      const warnings = (answer.warnings ?? []).map((/** @type {string} */ what) => h("span", { class: "line" }, visible(what)));
      return h("p", null, "Then: ", answer.unlimited ? "unlimited" : (answer.limits ?? []).map(limitWords).join("; "), warnings);
    },
    run: async (values) => {
      const saved = await call("PUT", path(values), spec(values), { headers });
      again();
      return `${saved.id} is set`;
    },
  });
}

/**
 * @param {string} domain
 * @param {import("./api.js").Override} of
 * @param {() => void} again
 */
function remove(domain, of, again) {
  ask({
    title: `Delete ${visible(of.id)}`,
    about: h("p", null, "Then the rule's own limits count again for ", code(written(of.spec?.match)), "."),
    fields: [reasonField()],
    action: "Delete",
    danger: true,
    run: async ({ reason }) => {
      await call("DELETE", to(`${ofDomain(domain)}/overrides/${encodeURIComponent(of.id)}`, { reason }), undefined, { headers: { "if-match": `"${of.etag}"` } });
      again();
      return `${of.id} is deleted`;
    },
  });
}
