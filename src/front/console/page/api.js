// The calls of the API, and who is signed in. It knows paths and answers, not how they are shown.

/**
 * @typedef {{requests: number, window_seconds: number, algorithm: string, burst?: number, enforce: boolean, name?: string, tier?: string, enforce_share?: string}} LimitNumbers
 * @typedef {{domain: string, limit_id?: string, all?: boolean, mode: string, factor?: number, ends: string, reason: string, by: string, at: string, this_replica?: boolean, warnings?: string[], share?: string}} LimitSwitch
 * @typedef {{name: string, addresses?: string[], version: string, started: string, at: string, rules_hash: string, rules_version: number, rules_loaded: string, problems?: number, problem_places?: string[], store: string, store_answers?: boolean, breakers_open?: number, requests?: number, refused?: number, degraded?: number, overrides_generation?: number, knows_switches?: boolean, switched_here?: number}} Replica
 * @typedef {{fleet: string, replicas?: Replica[], partial?: string, attention?: string[], switches?: LimitSwitch[], at: string}} Fleet
 * @typedef {{limit: string, descriptor: string, denied?: number, hits?: number, shadow?: number, error?: number}} TopEntry
 * @typedef {{fleet: string, replicas: number, by: string, since: string, from: string, entries?: TopEntry[], others_at_most?: number, partial?: string}} Top
 * @typedef {{begins: string, slot_seconds: number, requests?: number[], refused?: number[], degraded?: number[], store_errors?: number[], decision_p50_ms?: number[], decision_p99_ms?: number[], store_p99_ms?: number[], limit_requests?: number[], limit_refused?: number[], limit_shadow?: number[]}} Hour
 * @typedef {{domain: string, limit_id: string, limit?: LimitNumbers, place: string, switchable?: boolean, requests?: number, refused?: number, shadow?: number, switched?: LimitSwitch, hour_requests?: number[], hour_refused?: number[], hour_shadow?: number[]}} LimitOverview
 * @typedef {{limits?: LimitOverview[], total?: number, next_page_token?: string}} LimitPage
 * @typedef {Record<string, string> | {key: string, value: string}[]} Entries
 * @typedef {{match?: Entries, rule?: string, limit?: any, expires?: string, for?: string, reason?: string, owner?: string}} OverrideSpec
 * @typedef {{domain: string, id: string, spec?: OverrideSpec, etag: string, limits?: LimitNumbers[], unlimited?: boolean, updated_at: string, updated_by: string, warnings?: string[]}} Override
 * @typedef {{overrides?: Override[], next_page_token?: string}} OverridePage
 * @typedef {{at: string, action: string, domain: string, target: string, by: string, reason?: string, before?: string, after?: string}} Change
 * @typedef {{source: string, id?: string, place?: string, expires?: string, reason?: string, owner?: string, match?: Entries, why?: string, warning?: string}} ExplainedOverride
 * @typedef {{hits: number, at: string, until?: string}} HeldHits
 * @typedef {{limit_id: string, limit?: LimitNumbers, key: string, admits?: boolean, remaining?: number, reset_seconds?: number, role?: string, on_store_failure?: string, holds?: HeldHits, refused_hits?: string, deferred?: number, part?: number}} ExplainedCounter
 * @typedef {{entries?: Entries, steps?: {key: string, value: string, how: string, pattern?: string}[], rule?: string, place?: string, verdict: string, override?: ExplainedOverride, counters?: ExplainedCounter[], passed_over?: ExplainedOverride[], switches?: LimitSwitch[]}} ExplainedDescriptor
 * @typedef {{answer?: {allowed?: boolean, limit_id?: string, remaining?: number, retry_after_seconds?: number, degraded?: string}, descriptors?: ExplainedDescriptor[], rules_version?: number, store: string, store_error?: string}} Explanation
 * @typedef {{limit_id: string, before?: LimitNumbers, after?: LimitNumbers, protected?: boolean, place?: string}} SwitchedLimit
 * @typedef {{replicas: number, in_force: number, missing?: string[], partial?: string}} Confirmation
 * @typedef {{version: number, hash: string, loaded_at: string, files?: {path: string, domain: string, overrides?: boolean, entries?: number, kept?: boolean, text?: boolean}[], problems?: {path: string, line?: number, column?: number, severity: string, what: string, hint?: string, source_line?: string}[], problems_left_out?: number}} Rules
 * @typedef {{path: string, in_force: boolean, lines_total: number, line: number, lines?: string[]}} RuleText
 * @typedef {{token: string | null, looks_without_token: boolean, takes_tokens: boolean, scopes: {scope: string, domain: string | null}[], domains: string[], default_domain: string | null, fleet: string, version: string}} Session
 */

/** Why a call failed, in the words of the service. */
export class Problem extends Error {
  /**
   * @param {number} status 0 if no answer came
   * @param {string} detail
   * @param {{place: string, what: string, hint?: string}[]} errors
   */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/**
 * @param {string} method
 * @param {string} path relative to the page
 * @param {unknown} [body]
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} [more]
 * @returns {Promise<any>}
 */
export async function call(method, path, body, more = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json", ...more.headers };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, credentials: "same-origin", signal: more.signal,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (more.signal?.aborted) throw error;
    throw new Problem(0, "this replica doesn't answer");
  }
  const text = await response.text();
  /** @type {any} */
  let answer = null;
  try { answer = text ? JSON.parse(text) : null; } catch { /* A text in words. */ }
  if (response.ok) return answer;
  throw new Problem(response.status, answer?.detail ?? (text.trim().slice(0, 500) || response.statusText), answer?.errors);
}

/**
 * A path with parameters; those that are empty are left out.
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} parameters
 */
export function to(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** @param {string} domain */
export const ofDomain = (domain) => `v1/domains/${encodeURIComponent(domain)}`;

/** @type {Session} */
export let session = {
  token: null, looks_without_token: false, takes_tokens: false, scopes: [], domains: [], default_domain: null, fleet: "", version: "",
};

export async function readSession() {
  session = await call("GET", "session");
  return session;
}

/** @param {string} token */
export async function signIn(token) {
  session = await call("POST", "session", { token });
  return session;
}

export async function signOut() {
  await call("DELETE", "session");
  return readSession();
}

/**
 * Whether whoever is signed in may do this in a domain; without one, in any.
 * @param {string} scope
 * @param {string} [domain]
 */
export function may(scope, domain) {
  return session.scopes.some((of) => of.scope === scope && (domain === undefined || of.domain === null || of.domain === domain));
}

/**
 * Entries in their order, however they came.
 * @param {Entries | undefined} entries
 * @returns {{key: string, value: string}[]}
 */
export function entriesOf(entries) {
  if (!entries) return [];
  return Array.isArray(entries) ? entries : Object.entries(entries).map(([key, value]) => ({ key, value }));
}

/**
 * As the command line writes them: `user=alice,endpoint=/login`, where a comma within a text has a backslash before it.
 * @param {Entries | undefined} entries
 */
export function written(entries) {
  const escaped = (/** @type {string} */ text) => text.replace(/(\\*),/g, "$1$1\\,");
  const texts = entriesOf(entries).map(({ key, value }) => escaped(`${key}=${value}`));
  return texts.map((text, index) => (index + 1 < texts.length ? text.replace(/(\\+)$/, "$1$1") : text)).join(",");
}

/**
 * @param {string} text
 * @returns {{key: string, value: string}[]}
 */
export function parseEntries(text) {
  const parts = [""];
  for (const [piece, slashes] of [...text.matchAll(/(\\*),|[^\\,]+|\\+/g)].map((found) => [found[0], found[1]])) {
    if (slashes === undefined) parts[parts.length - 1] += piece;
    else {
      // Of several backslashes right before a comma each two are one; one that is left makes the comma a part of the text.
      parts[parts.length - 1] += "\\".repeat(slashes.length / 2) + (slashes.length % 2 ? "," : "");
      if (slashes.length % 2 === 0) parts.push("");
    }
  }
  return parts.map((part) => {
    const split = part.indexOf("=");
    if (split < 1) throw new Problem(0, `“${part.slice(0, 60)}” is no key=value: write user=alice,endpoint=/login`);
    return { key: part.slice(0, split), value: part.slice(split + 1) };
  });
}
