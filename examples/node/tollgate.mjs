// A client of Tollgate's HTTP API for Node 18 and newer, without dependencies. Copy it, or import it.

import { createHash } from "node:crypto";

/** An answer that is no decision: what Tollgate said, with its problem (RFC 9457) where it sent one. */
export class TollgateError extends Error {
  constructor(message, { status, problem, cause } = {}) {
    super(message, { cause });
    this.name = "TollgateError";
    this.status = status;
    this.problem = problem;
  }
}

export class Tollgate {
  /**
   * @param {string} url such as http://localhost:8080
   * @param {object} [options]
   * @param {string} [options.domain] the domain of the rules; may be left out where the service has one
   * @param {string} [options.token] for `configureUserLimit`, and for checks where they need one
   * @param {number} [options.timeoutMs] how long to wait for an answer, 1,000 by default
   * @param {number} [options.connections] calls under way at once, 64 by default: each takes a connection, and the service
   *   takes 250 of one address. A further call waits for its turn, within its `timeoutMs`.
   */
  constructor(url, { domain, token, timeoutMs = 1_000, connections = 64 } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.domain = domain;
    this.token = token;
    this.timeoutMs = timeoutMs;
    this.#free = connections;
  }

  #free;
  #waiting = new Set();

  /** Whether one more request of this user may pass. Counts it. */
  async isAllowed(user) {
    return (await this.check({ user })).allowed;
  }

  /** Whether one more request of this user to this endpoint may pass. Counts it. */
  async allowRequest(user, endpoint) {
    return (await this.check({ user, endpoint })).allowed;
  }

  /**
   * Whether this user may do this once more: `limit` times in `windowSeconds`, besides what the rules say. Counts it.
   * @returns {Promise<{allowed: boolean, retryAfterSeconds: number}>} 0 seconds where it is allowed
   */
  async rateLimit(user, action, limit, windowSeconds) {
    const answer = await this.check({ user, action, limit, window_seconds: windowSeconds });
    return { allowed: answer.allowed, retryAfterSeconds: answer.retry_after_seconds ?? 0 };
  }

  /**
   * Gives one user a limit of their own in place of the rule for the key `user`, in force at once on all replicas. Needs a token with the scope
   * `overrides.write`, and the domain.
   */
  async configureUserLimit(user, limit, windowSeconds, { reason } = {}) {
    if (this.domain === undefined) throw new TollgateError("configureUserLimit needs the option `domain`");
    const path = `/v1/domains/${encodeURIComponent(this.domain)}/overrides/${overrideId(user)}`;
    const microseconds = Math.round(windowSeconds * 1e6);
    // A star that is meant has a backslash before it.
    const match = { user: user.replace(/(\\*)\*/g, "$1$1\\*") };
    const spec = { match, rule: "user", limit: { requests: limit, window: `${microseconds}us` }, reason };
    return (await this.#call("PUT", path, spec)).answer;
  }

  /**
   * A check in any of its forms, answered in full: see docs/src/reference/api.md. `headers` of the answer are those to
   * pass on to the client: `ratelimit`, `ratelimit-policy`, and `retry-after` where it is refused.
   */
  async check(request) {
    const { answer, response } = await this.#call("POST", "/v1/check", { domain: this.domain, ...request });
    const names = ["ratelimit", "ratelimit-policy", "retry-after"].filter((name) => response.headers.has(name));
    return { ...answer, headers: Object.fromEntries(names.map((name) => [name, response.headers.get(name)])) };
  }

  async #call(method, path, body) {
    const headers = { "content-type": "application/json" };
    if (this.token !== undefined) headers.authorization = `Bearer ${this.token}`;
    const signal = AbortSignal.timeout(this.timeoutMs);
    let response, answer;
    try {
      await this.#turn(signal);
      try {
        response = await fetch(this.url + path, { method, headers, body: JSON.stringify(body), signal });
        answer = await response.json();
      } finally {
        this.#next();
      }
    } catch (cause) {
      throw new TollgateError(`no answer from ${this.url}: ${cause.message}`, { status: response?.status, cause });
    }
    // 429 is a decision too.
    if (response.ok || (response.status === 429 && "allowed" in answer)) return { answer, response };
    throw new TollgateError(answer.detail ?? `status ${response.status}`, { status: response.status, problem: answer });
  }

  /** Waits until a connection is free. */
  async #turn(signal) {
    if (this.#free > 0) return void this.#free--;
    await new Promise((go, fail) => {
      this.#waiting.add(go);
      const leave = () => this.#waiting.delete(go) && fail(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  /** Hands the connection to the call that has waited longest. */
  #next() {
    const [go] = this.#waiting;
    if (go === undefined) return void this.#free++;
    this.#waiting.delete(go);
    go();
  }
}

/**
 * The id that the service's own tools give to such an override, so that it is the same one: an id may hold few characters,
 * others are written as `~` and two hexadecimal digits for each byte; one that gets too long ends with a digest.
 */
function overrideId(user) {
  const id = (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9._@-]/.test(character) ? character : `~${byte.toString(16).padStart(2, "0")}`;
  };
  const whole = "user:" + Array.from(new TextEncoder().encode(user), id).join("");
  if (whole.length <= 128) return whole;
  const hash = createHash("sha256");
  for (const text of ["", "user", user]) {
    const bytes = Buffer.from(text), length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    hash.update(length).update(bytes);
  }
  const readable = Array.from(`user:${user}`, (c) => (/[A-Za-z0-9]/.test(c) ? c : "-")).slice(0, 80).join("");
  return `${readable}~${hash.digest("hex").slice(0, 32)}`;
}
