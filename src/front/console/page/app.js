// The frame of the page: which view is shown, who is signed in, messages, and the keyboard.

import { Problem, may, readSession, session, signIn, signOut } from "./api.js";
import { ask, field, isOpen, tell } from "./dialog.js";
import { fill, h, visible } from "./dom.js";
import * as changes from "./changes.js";
import * as fleet from "./fleet.js";
import * as limits from "./limits.js";
import * as live from "./live.js";
import * as overrides from "./overrides.js";
import * as rules from "./rules.js";
import * as user from "./user.js";

/**
 * What a view has to work with.
 * @typedef {object} View
 * @property {HTMLElement} main
 * @property {URLSearchParams} params
 * @property {AbortSignal} signal aborted when another view is shown
 * @property {(seconds: number, read: () => Promise<void>) => () => Promise<void>} every reads now, each so many seconds
 *   while the page is seen, and whenever the function that it gives is called
 * @property {(params: Record<string, string>) => void} keep puts parameters into the address, without showing the view anew
 * @property {() => void} again shows the view anew
 */

/** @typedef {{title: string, scope: string, show: (view: View) => void}} ViewModule */

/** @type {Record<string, ViewModule>} */
const VIEWS = { fleet, limits, user, live, overrides, rules, changes };
const NAMES = Object.keys(VIEWS);

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = byId("main");

let shown = new AbortController();

/** The view and its parameters that the address names. */
function address() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: name in VIEWS ? name : "fleet", params: new URLSearchParams(query ?? "") };
}

function show() {
  shown.abort();
  shown = new AbortController();
  const { name, params } = address();
  const view = VIEWS[name];
  document.title = `${view.title} · ${session.fleet || "Tollgate"}`;
  byId("fleet-name").textContent = session.fleet || "Tollgate";
  fill(byId("views"), NAMES.map((of, index) => h("a", {
    href: `#/${of}`, "data-key": of, "aria-current": of === name ? "page" : null, title: `${VIEWS[of].title} (${index + 1})`,
  }, VIEWS[of].title)));
  fill(byId("account"), session.token ? `${session.token} ▾` : "Sign in");
  byId("updated").textContent = "";
  main.className = name;
  if (!may(view.scope)) {
    fill(main, h("p", { class: "note" }, session.token
      ? `The token ${session.token} lacks the scope ${view.scope}, which this view needs.`
      : "Sign in with a token to look."));
    return;
  }
  fill(main);
  view.show({ main, params, signal: shown.signal, every, keep, again: show });
}

/** @type {View["every"]} */
function every(seconds, read) {
  const { signal } = shown;
  let timer = 0;
  const trouble = h("p", { class: "note bad", role: "alert", hidden: true });
  main.prepend(trouble);
  const once = async () => {
    // Nothing moves under a dialog, and nothing is read for a page that nobody sees.
    if (document.hidden || isOpen()) return;
    try {
      await read();
      trouble.hidden = true;
      if (!signal.aborted) byId("updated").textContent = `as of ${new Date().toLocaleTimeString()}`;
    } catch (error) {
      if (signal.aborted) return;
      trouble.hidden = false;
      trouble.textContent = visible(said(error));
      if (error instanceof Problem && error.status === 401) await refresh();
    }
  };
  /** @type {Promise<void> | null} */
  let reading = null;
  let isWanted = false;
  // One reading after the other, so that an older answer never takes the place of a newer one.
  const now = () => {
    isWanted = true;
    reading ??= (async () => {
      clearTimeout(timer);
      while (isWanted && !signal.aborted) {
        isWanted = false;
        await once();
      }
      reading = null;
      if (!signal.aborted) timer = setTimeout(now, seconds * 1000);
    })();
    return reading;
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  for (const event of ["refresh", "visibilitychange"]) document.addEventListener(event, now, { signal });
  queueMicrotask(now);
  return now;
}

/** @param {unknown} error */
export function said(error) {
  if (error instanceof Problem && error.errors.length > 0) {
    return error.errors.map(({ place, what, hint }) => `${place}: ${what}${hint ? ` (${hint})` : ""}`).join("\n");
  }
  return error instanceof Error ? error.message : String(error);
}

/** @type {View["keep"]} */
function keep(params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== ""));
  const text = query.toString();
  history.replaceState(null, "", `#/${address().name}${text ? `?${text}` : ""}`);
}

/** Reads who is signed in, and shows the view if that has changed. */
async function refresh() {
  const before = session.token;
  await readSession();
  if (session.token !== before) show();
}

function account() {
  if (session.token) {
    ask({
      title: `Signed in as ${session.token}`,
      about: h("div", null,
        h("p", null, "This token may:"),
        h("ul", { class: "grants" }, session.scopes.map(({ scope, domain }) => h("li", null, `${scope}${domain === null ? "" : ` in ${domain}`}`)))),
      action: "Sign out",
      run: async () => { await signOut(); show(); return null; },
    });
    return;
  }
  if (!session.takes_tokens) {
    tell("This service knows no tokens: start it with --api-token-file to make changes.");
    return;
  }
  ask({
    title: "Sign in",
    about: h("p", null, "With a token of the API. It is kept for 8 hours in a cookie that no script can read, and the page then offers what the token may."),
    fields: [field("token", "Token", { type: "password", required: true, autocomplete: "off", spellcheck: "false", maxlength: 1024 })],
    action: "Sign in",
    run: async ({ token }) => { await signIn(token.trim()); show(); return `Signed in as ${session.token}`; },
  });
}

function keyboard() {
  ask({
    title: "Keyboard",
    about: h("dl", { class: "keys" },
      NAMES.map((name, index) => h("div", null, h("dt", null, h("kbd", null, index + 1)), h("dd", null, VIEWS[name].title))),
      [["/", "the view's first field"], ["s", "sign in or out"], ["t", "dark or light"], ["?", "this list"], ["Esc", "close what is open"], ["Tab", "the next link, field or button"]]
        .map(([key, what]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, what)))),
  });
}

/** Dark, light, or as the system has it. */
function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || isOpen() || target.matches("input, select, textarea")) return;
  const view = NAMES[Number(event.key) - 1];
  if (view) location.hash = `#/${view}`;
  else if (event.key === "/") /** @type {HTMLElement | null} */ (main.querySelector("input, select"))?.focus();
  else if (event.key === "s") account();
  else if (event.key === "t") turnTheme();
  else if (event.key === "?") keyboard();
  else return;
  event.preventDefault();
});

const theme = localStorage.getItem("theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
byId("theme").addEventListener("click", turnTheme);
byId("help").addEventListener("click", keyboard);
byId("account").addEventListener("click", account);
window.addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); });
document.querySelector("a.skip")?.addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

try {
  await readSession();
  show();
} catch (error) {
  fill(main, h("p", { class: "note bad" }, visible(said(error))));
}
