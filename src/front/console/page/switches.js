// Switches: the list of them, and the dialogs that set one or take it back.

import { call, may, ofDomain, to } from "./api.js";
import { ask, field, reasonField } from "./dialog.js";
import { badge, code, h, limitWords, moment, table, visible } from "./dom.js";

/** @param {import("./api.js").LimitSwitch} of */
export function switchWords(of) {
  if (of.mode === "scale") return `scaled × ${of.factor}`;
  if (of.mode === "enforce") return `denies ${of.share}`;
  return of.mode;
}

/** @param {import("./api.js").LimitSwitch} of */
export function switchBadge(of) {
  return badge("warn", switchWords(of), ", ends ", moment(of.ends));
}

/**
 * @param {import("./api.js").LimitSwitch[]} switches
 * @param {() => void} again
 */
export function switchTable(switches, again) {
  const rows = switches.map((of) => {
    const id = of.all ? `${of.domain}: all limits` : (of.limit_id ?? "");
    return [
      code(id), badge("warn", switchWords(of)), moment(of.ends), visible(of.by), visible(of.reason),
      of.this_replica ? badge("bad", "this replica alone") : "",
      may("limits.write", of.domain) && h("button", { type: "button", "data-key": `restore ${id}`, onclick: () => restore(of, again) }, "Restore…"),
    ];
  });
  return table("Switched limits", ["Limit", "Switch", "Ends", "By", { name: "Reason", wide: true }, "", ""], rows, "Nothing is switched.");
}

/** @param {import("./api.js").SwitchedLimit[]} limits */
function preview(limits) {
  const shown = limits.slice(0, 12).map((of) => [
    code(of.limit_id), limitWords(of.before), of.protected ? "stays: it is protected" : limitWords(of.after),
  ]);
  return h("div", null, table("What it changes", ["Limit", "Now", "Then"], shown, "no limit of the rules"),
    limits.length > shown.length && h("p", { class: "quiet" }, `and ${limits.length - shown.length} more`));
}

/** @param {import("./api.js").Confirmation | undefined} in_force */
export function confirmation(in_force) {
  if (!in_force) return "";
  const missing = in_force.missing?.length ? `; not confirmed by ${in_force.missing.join(", ")}` : "";
  return `in force on ${in_force.in_force} of ${in_force.replicas} replicas${missing}${in_force.partial ? `; ${in_force.partial}` : ""}`;
}

/**
 * Asks how a limit is to be switched, and does it.
 * @param {{domain: string, limit_id: string}} limit
 * @param {() => void} again
 */
export function switchLimit({ domain, limit_id }, again) {
  const path = `${ofDomain(domain)}/switches`;
  const body = (/** @type {Record<string, string>} */ values) => ({
    limit_id, mode: values.mode, for: values.for, reason: values.reason,
    ...(values.mode === "scale" ? { factor: Number(values.factor) } : {}),
    ...(values.mode === "enforce" ? { share: values.share } : {}),
  });
  const factor = field("factor", "Factor", { type: "number", min: "0.01", step: "any", value: "3" });
  const share = field("share", "Share that it denies", { value: "10%" });
  const mode = field("mode", "Switch to", { value: "shadow", options: [
    ["shadow", "shadow: count, deny nobody"], ["off", "off: don't count either"], ["scale", "scale: a multiple of the limit"], ["enforce", "enforce: deny a share of clients"],
  ] });
  const choose = () => {
    const chosen = /** @type {HTMLSelectElement} */ (mode.querySelector("select")).value;
    factor.hidden = chosen !== "scale";
    share.hidden = chosen !== "enforce";
  };
  mode.addEventListener("change", choose);
  choose();
  ask({
    title: `Switch ${visible(limit_id)}`,
    fields: [mode, factor, share, field("for", "For", { value: "1h", options: ["15m", "1h", "4h", "8h", "1d", "7d"], hint: "It ends by itself, on all replicas." }), reasonField()],
    action: "Switch",
    preview: async (values) => {
      const answer = await call("PUT", to(path, { dry_run: true }), { ...body(values), reason: values.reason || "a look" });
      return preview(answer.limits ?? []);
    },
    run: async (values) => {
      const answer = await call("PUT", path, body(values));
      again();
      return `${limit_id}: ${switchWords(answer.saved)}, ${confirmation(answer.in_force)}`;
    },
  });
}

/**
 * @param {import("./api.js").LimitSwitch} of
 * @param {() => void} again
 */
export function restore(of, again) {
  const path = `${ofDomain(of.domain)}/switches`;
  const target = of.all ? { all: true } : { limit_id: of.limit_id };
  ask({
    title: `Restore ${visible(of.all ? `all limits of ${of.domain}` : of.limit_id)}`,
    about: h("p", null, `It is ${switchWords(of)}, set by ${visible(of.by)}: ${visible(of.reason)}`),
    fields: [reasonField()],
    action: "Restore",
    run: async ({ reason }) => {
      const answer = await call("DELETE", to(path, { ...target, reason }));
      again();
      return `${of.all ? of.domain : of.limit_id} is as its rule says, ${confirmation(answer.in_force)}`;
    },
  });
}

