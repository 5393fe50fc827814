// Decisions as they happen, on all replicas, with filters.

import { session, to, written } from "./api.js";
import { field, valuesOf } from "./dialog.js";
import { badge, code, h, visible } from "./dom.js";

export const title = "Live";
export const scope = "insight.read";

/** Lines that are kept. */
const LINES = 500;

/** @type {import("./app.js").ViewModule["show"]} */
export function show({ main, params, signal, keep }) {
  const domains = /** @type {[string, string][]} */ ([["", "all domains"], ...session.domains.map((of) => [of, of])]);
  const form = h("form", { class: "bar", role: "search" },
    domains.length > 2 && field("domain", "Domain", { value: params.get("domain") ?? "", options: domains }),
    h("div", { class: "grow" }, field("limit", "Limit", { type: "search", value: params.get("limit") ?? "", placeholder: "api/user" })),
    h("div", { class: "grow" }, field("entry", "Entry", { type: "search", value: params.get("entry") ?? "", placeholder: "user=alice" })),
    field("only", "Only", { value: params.get("only") ?? "", options: [["", "all decisions"], ["denied", "refused"], ["shadow", "would be refused"], ["degraded", "degraded"]] }),
    h("button", { type: "submit", class: "primary" }, "Watch"));
  const stop = h("button", { type: "button", hidden: true, onclick: () => end("Stopped.") }, "Stop");
  const state = h("p", { class: "quiet", role: "status" });
  const lines = h("tbody");
  const stream = h("section", { class: "stream", hidden: true }, h("table", null, h("caption", { class: "unseen" }, "Decisions, the newest first"),
    h("thead", null, h("tr", null, ["Time", "Answer", "Limit", "Descriptors", "Hits", "Replica"].map((name) => h("th", { scope: "col" }, name)))), lines));
  form.append(stop);
  main.append(form, state, stream);
  /** @type {EventSource | null} */
  let source = null;
  let seen = 0;
  let left = 0;
  /** @type {Node[]} */
  let waiting = [];

  /** @param {string} why */
  function end(why) {
    source?.close();
    source = null;
    stop.hidden = true;
    flush();
    state.textContent = `${visible(why)} ${seen} decisions${left > 0 ? `, ${left} left out` : ""}.`;
  }

  // What comes is drawn a few times a second, however much it is.
  function flush() {
    if (waiting.length === 0) return;
    lines.prepend(...waiting.reverse().slice(0, LINES));
    waiting = [];
    while (lines.childElementCount > LINES) lines.lastElementChild?.remove();
  }
  const drawing = setInterval(flush, 250);
  signal.addEventListener("abort", () => { source?.close(); clearInterval(drawing); });

  function watch() {
    source?.close();
    const asked = valuesOf(form);
    keep(asked);
    seen = left = 0;
    let hasBegun = false;
    lines.replaceChildren();
    state.textContent = "Connecting…";
    const address = to("v1/decisions", { ...asked, for: "15m" });
    const from = new EventSource(address);
    source = from;
    stop.hidden = false;
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ then) => from.addEventListener(name, (event) => {
      if (source === from) then(JSON.parse(/** @type {MessageEvent} */ (event).data));
    });
    on("started", (data) => {
      hasBegun = true;
      stream.hidden = false;
      state.textContent = `Watching ${data.replicas === 1 ? "one replica" : `${data.replicas} replicas`} for 15 minutes.${data.partial ? ` ${visible(data.partial)}` : ""}`;
    });
    on("decision", (data) => { seen++; waiting.push(line(data)); if (waiting.length > 2 * LINES) waiting = waiting.slice(-LINES); });
    on("left_out", (data) => { left += Number(data.lines ?? 0); state.textContent = `Watching; ${left} decisions were too many to be sent.`; });
    on("ended", (data) => end(`Ended: ${data.why}.`));
    from.addEventListener("error", () => {
      if (source !== from) return;
      end(hasBegun ? "The connection broke off." : "It can't be watched.");
      if (!hasBegun) refusal(address).then((text) => { if (!source && !signal.aborted && text) state.textContent = visible(`It can't be watched: ${text}`); });
    });
  }
  form.addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); watch(); });
  watch();
}

/**
 * Why a watch is refused: a browser says nothing of it to who asks for events.
 * @param {string} address
 */
async function refusal(address) {
  const once = new AbortController();
  try {
    const response = await fetch(address, { signal: once.signal, credentials: "same-origin" });
    return response.ok ? "" : String((await response.json()).detail ?? "");
  } catch {
    return "this replica doesn't answer";
  } finally {
    // What is answered after all isn't watched.
    once.abort();
  }
}

/**
 * @param {{replica?: string, t: number, domain: string, descriptors?: {entries?: import("./api.js").Entries, limits?: {limit_id: string, code: string, shadow?: boolean, remaining?: number}[]}[], hits?: number, code: string, limit_id?: string, denied_by?: string, degraded?: string, override?: string}} of
 */
function line(of) {
  const limits = (of.descriptors ?? []).flatMap((one) => one.limits ?? []);
  const shadow = limits.some((limit) => limit.shadow);
  const answer = of.code === "OK" ? (shadow ? badge("warn", "would refuse") : badge("good", "admitted")) : badge("bad", of.code === "ERROR" ? "error" : "refused");
  const entries = (of.descriptors ?? []).map((one) => written(one.entries)).join(" | ");
  return h("tr", null,
    h("td", { "data-label": "Time" }, new Date(of.t * 1000).toLocaleTimeString()),
    h("td", { "data-label": "Answer" }, answer),
    h("td", { "data-label": "Limit" }, code(of.denied_by || of.limit_id || "", 80)),
    h("td", { "data-label": "Descriptors", class: "wide" }, h("a", { href: `#/user?${new URLSearchParams({ domain: of.domain, descriptor: written(of.descriptors?.[0]?.entries) })}` }, code(entries))),
    h("td", { "data-label": "Hits" }, String(of.hits ?? 1)),
    h("td", { "data-label": "Replica" }, visible(of.replica)));
}
