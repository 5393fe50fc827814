// The limits of the rules: what they decide now, and of one of them the last hour, whom it refuses most, and its switch.

import { call, may, session, to } from "./api.js";
import { field, valuesOf } from "./dialog.js";
import { code, fill, h, limitWords, rate, section, short, table, visible } from "./dom.js";
import { graph, small } from "./graph.js";
import { pages } from "./pages.js";
import { restore, switchBadge, switchLimit } from "./switches.js";

export const title = "Limits";
export const scope = "insight.read";

/** @type {import("./app.js").ViewModule["show"]} */
export function show(view) {
  const { params } = view;
  if (params.get("limit")) one(view, params.get("domain") ?? "", params.get("limit") ?? "");
  else all(view);
}

/** @type {import("./app.js").ViewModule["show"]} */
function all({ main, params, every, keep, signal, again }) {
  const domains = /** @type {[string, string][]} */ ([["", "all domains"], ...session.domains.map((of) => [of, of])]);
  const form = h("form", { class: "bar", role: "search" },
    h("div", { class: "grow" }, field("search", "Limit", { type: "search", value: params.get("search") ?? "", placeholder: "a part of its id, such as api/user" })),
    domains.length > 2 && field("domain", "Domain", { options: domains, value: params.get("domain") ?? "" }),
    field("by", "Order", { options: [["refused", "refused most"], ["requests", "asked most"], ["id", "by id"]], value: params.get("by") ?? "refused" }));
  const results = h("div");
  main.append(form, results);
  const list = pages(form, keep, () => now());
  const now = every(5, async () => {
    /** @type {import("./api.js").LimitPage} */
    const page = await call("GET", to("v1/limits", { ...valuesOf(form), ...list.parameters(), hour: true }), undefined, { signal });
    const limits = page.limits ?? [];
    const words = (/** @type {number} */ from) => (limits.length > 0 ? `${from} to ${from + limits.length - 1} of ${short(page.total)}, rates of this replica over the last 10 to 20 s` : "");
    fill(results, limitTable(limits, again), list.bar(page.next_page_token, words));
  });
}

/** @param {{domain: string, limit_id: string}} of */
const linkTo = (of) => `#/limits?${new URLSearchParams({ domain: of.domain, limit: of.limit_id })}`;

/**
 * @param {import("./api.js").LimitOverview[]} limits
 * @param {() => void} again
 */
function limitTable(limits, again) {
  const number = (/** @type {string} */ name) => ({ name, number: true });
  const rows = limits.map((of) => [
    h("a", { href: linkTo(of), "data-key": `limit ${of.limit_id}` }, code(of.limit_id, 90)),
    limitWords(of.limit),
    rate(of.requests), rate(of.refused), rate(of.shadow),
    lastHour(of),
    of.switched ? switchBadge(of.switched) : "",
    place(of.place),
    control(of, again),
  ]);
  return section("Limits", table("Limits", [{ name: "Limit", wide: true }, "Allows", number("Requests/s"), number("Refused/s"), number("Would refuse/s"), "Last hour", "Switched", "Place", ""], rows, "No limit is called so."));
}

/** The name of the file and the line; the whole is in its title. @param {string} text */
const place = (text) => h("span", { class: "quiet", title: visible(text) }, visible(text.slice(text.lastIndexOf("/") + 1)));

/** Requests, and of them refusals. @param {import("./api.js").LimitOverview} of */
function lastHour(of) {
  const lines = [
    { name: "requests", values: of.hour_requests ?? [], kind: "plain", area: true },
    { name: "refused", values: of.hour_refused ?? [], kind: "bad", area: true },
    { name: "would be refused", values: of.hour_shadow ?? [], kind: "warn" },
  ].filter((line) => line.values.length > 0);
  return lines.length > 0 && small(lines, rate);
}

/**
 * @param {import("./api.js").LimitOverview} of
 * @param {() => void} again
 */
function control(of, again) {
  if (!may("limits.write", of.domain)) return "";
  const switched = of.switched;
  return h("span", { class: "row" },
    of.switchable
      ? h("button", { type: "button", "data-key": `switch ${of.limit_id}`, onclick: () => switchLimit(of, again) }, "Switch…")
      : h("span", { class: "quiet" }, "protected"),
    switched && h("button", { type: "button", "data-key": `restore ${of.limit_id}`, onclick: () => restore(switched, again) }, "Restore…"));
}

/**
 * @param {import("./app.js").View} view
 * @param {string} domain
 * @param {string} limit
 */
function one({ main, every, signal, again }, domain, limit) {
  const about = h("div");
  const drawn = h("div", { class: "graphs" });
  const lists = h("div");
  const by = field("by", "Whom", { options: [["denied", "refused most"], ["hits", "asking most"], ["shadow", "would be refused most"]] });
  const since = field("since", "Over", { options: [["10m", "10 minutes"], ["1m", "1 minute"], ["1h", "1 hour"]] });
  const form = h("form", { class: "bar" }, by, since);
  main.append(h("p", null, h("a", { href: "#/limits" }, "← all limits")), about, drawn, form, lists);
  const now = every(5, async () => {
    /** @type {[import("./api.js").LimitPage, import("./api.js").Hour, import("./api.js").Top]} */
    const [page, hour, top] = await Promise.all([
      call("GET", to("v1/limits", { domain, search: limit, by: "id", page_size: 50 }), undefined, { signal }),
      call("GET", to("v1/history", { limit }), undefined, { signal }),
      call("GET", to("v1/top", { domain, limit, n: 50, ...valuesOf(form) }), undefined, { signal }),
    ]);
    const of = (page.limits ?? []).find((one) => one.limit_id === limit);
    fill(about, section(visible(limit), of
      ? [h("div", { class: "row" }, h("b", null, limitWords(of.limit)), h("span", { class: "quiet" }, of.limit?.algorithm ?? ""), of.switched && switchBadge(of.switched), control(of, again)),
        h("p", { class: "quiet" }, `${visible(of.place)} · ${rate(of.requests)} requests/s, ${rate(of.refused)} refused/s on this replica`)]
      : h("p", null, "No rule has this limit.")));
    fill(drawn, graph("Requests", [{ name: "per second", values: hour.limit_requests ?? [], kind: "plain", area: true }], hour, rate),
      graph("Refusals", [
        { name: "refused", values: hour.limit_refused ?? [], kind: "bad", area: true },
        { name: "would be", values: hour.limit_shadow ?? [], kind: "warn" },
      ], hour, rate));
    fill(lists, topTable(top, domain));
  });
  form.addEventListener("input", now);
}

/**
 * @param {import("./api.js").Top} top
 * @param {string} domain
 */
function topTable(top, domain) {
  const number = (/** @type {string} */ name) => ({ name, number: true });
  const rows = (top.entries ?? []).map((of) => [
    h("a", { href: `#/user?${new URLSearchParams({ domain, descriptor: of.descriptor })}`, "data-key": `who ${of.descriptor}` }, code(of.descriptor, 90)),
    short(of.denied), short(of.hits), short(of.shadow), of.error ? `± ${short(of.error)}` : "exact",
  ]);
  return section(`Who, on ${top.replicas === 1 ? "one replica" : `all ${top.replicas} replicas`}`,
    top.partial ? h("p", { class: "quiet" }, visible(top.partial)) : null,
    table("Whom it refuses most", [{ name: "Descriptor", wide: true }, number("Refused"), number("Hits"), number("Would be refused"), number("Error")], rows, "Nobody."),
    top.others_at_most ? h("p", { class: "quiet" }, `Nobody else has more than ${short(top.others_at_most)}.`) : null);
}
