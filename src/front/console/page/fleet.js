// The fleet: what each replica says of itself, what wants attention, and the last hour.

import { call } from "./api.js";
import { badge, duration, fill, h, moment, rate, section, table, visible } from "./dom.js";
import { graph } from "./graph.js";
import { switchTable } from "./switches.js";

export const title = "Fleet";
export const scope = "insight.read";

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, every, signal, again }) {
  const top = h("div");
  const graphs = h("div", { class: "graphs" });
  const below = h("div");
  main.append(top, graphs, below);
  every(5, async () => {
    /** @type {[import("./api.js").Fleet, import("./api.js").Hour | null]} */
    const [fleet, hour] = await Promise.all([call("GET", "v1/fleet", undefined, { signal }), call("GET", "v1/history", undefined, { signal })]);
    fill(top, summary(fleet));
    if (hour) fill(graphs, hourGraphs(hour));
    fill(below, replicas(fleet), section("Switched limits", switchTable(fleet.switches ?? [], again)));
  });
}

/** @param {import("./api.js").Fleet} fleet */
function summary(fleet) {
  const replicas = fleet.replicas ?? [];
  const sum = (/** @type {(of: import("./api.js").Replica) => number | undefined} */ of) => replicas.reduce((all, one) => all + (of(one) ?? 0), 0);
  const [requests, refused, degraded] = [sum((of) => of.requests), sum((of) => of.refused), sum((of) => of.degraded)];
  const share = requests > 0 ? ` ${((100 * refused) / requests).toFixed(1)} %` : "";
  const attention = fleet.attention ?? [];
  return [
    h("div", { class: "numbers" },
      number("replicas", String(replicas.length)),
      number("requests / s", rate(requests)),
      number("refused / s", rate(refused), share, refused > 0 ? "bad" : ""),
      number("degraded / s", rate(degraded), "", degraded > 0 ? "warn" : ""),
      number("switched limits", String((fleet.switches ?? []).length), "", (fleet.switches ?? []).length > 0 ? "warn" : "")),
    attention.length > 0
      ? h("ul", { class: "note warn attention", "aria-label": "What wants attention" }, attention.map((what) => h("li", null, visible(what))))
      : h("p", { class: "calm" }, "Nothing wants attention."),
  ];
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} [more]
 * @param {string} [kind]
 */
function number(name, value, more = "", kind = "") {
  return h("div", { class: `number-box ${kind}` }, h("b", null, value), h("small", null, more), h("span", null, name));
}

/** @param {import("./api.js").Hour} hour */
function hourGraphs(hour) {
  const ms = (/** @type {number} */ value) => (value >= 10 ? value.toFixed(0) : value.toFixed(value >= 1 ? 1 : 2));
  const list = (/** @type {number[] | undefined} */ values) => values ?? [];
  return [
    graph("Requests", [{ name: "per second", values: list(hour.requests), kind: "plain", area: true }], hour, rate),
    graph("Refusals", [
      { name: "per second", values: list(hour.refused), kind: "bad", area: true },
      ...(list(hour.degraded).some((of) => of > 0) ? [{ name: "degraded", values: list(hour.degraded), kind: "warn" }] : []),
    ], hour, rate),
    graph("Latency", [
      { name: "p99", values: list(hour.decision_p99_ms), kind: "plain" },
      { name: "p50", values: list(hour.decision_p50_ms), kind: "second" },
    ], hour, ms, " ms"),
    graph("Store", [
      { name: "p99", values: list(hour.store_p99_ms), kind: "plain" },
      ...(list(hour.store_errors).some((of) => of > 0) ? [{ name: "errors / s", values: list(hour.store_errors), kind: "bad", unit: "" }] : []),
    ], hour, ms, " ms"),
    h("p", { class: "quiet" }, "Graphs are of the replica that serves this page."),
  ];
}

/** @param {import("./api.js").Fleet} fleet */
function replicas(fleet) {
  const number = (/** @type {string} */ name) => ({ name, number: true });
  const rows = (fleet.replicas ?? []).map((of) => [
    h("b", null, visible(of.name)),
    state(of),
    rate(of.requests), rate(of.refused), rate(of.degraded),
    h("span", null, h("code", { title: of.rules_hash }, of.rules_hash.slice(0, 8)), " ", moment(of.rules_loaded)),
    storeWords(of),
    of.version,
    h("time", { datetime: of.started, title: of.started }, duration((Date.now() - Date.parse(of.started)) / 1000)),
    h("span", { class: "quiet" }, (of.addresses ?? []).map(visible).join(", ")),
  ]);
  return section("Replicas", fleet.partial ? h("p", { class: "note warn" }, visible(fleet.partial)) : null,
    table("Replicas", ["Name", "State", number("Requests/s"), number("Refused/s"), number("Degraded/s"), "Rules", "Store", "Version", "Up", { name: "Addresses", wide: true }], rows, "no replica is known"));
}

/** @param {import("./api.js").Replica} of */
function state(of) {
  if (!of.store_answers) return badge("bad", "no store");
  if ((of.problems ?? 0) > 0) return badge("warn", `${of.problems} rule errors`);
  if ((of.breakers_open ?? 0) > 0) return badge("warn", `${of.breakers_open} breakers open`);
  if ((of.switched_here ?? 0) > 0) return badge("warn", `${of.switched_here} switched here`);
  return badge("good", "good");
}

/** @param {import("./api.js").Replica} of */
function storeWords(of) {
  return `${visible(of.store)}${of.store_answers ? "" : ", doesn't answer"}`;
}

