// The incident: a flood is seen, explained, let pass on every replica and ended, clicked and then with the keyboard alone;
// then every other change, hostile values, and a token that may only look.

import { writeFileSync, mkdirSync, readFileSync } from "node:fs";

import { ask, check, close, message, open, signIn, start, tabTo, told, view } from "./browser.mjs";

const admin = `http://${told.admin[0]}/`;
const VIEWS = ["fleet", "limits", "user", "live", "overrides", "rules", "changes"];
const browser = await start();

/** Floods as `who`, over all replicas. */
async function flood(who, times = 60) {
  for (let time = 0; time < times; time++) await ask(told.http[time % 3], { user: who });
}

async function decided(who, allowed, when) {
  for (const address of told.http) check((await ask(address, { user: who })).allowed === allowed, `${who} is ${allowed ? "admitted" : "refused"} by ${address} ${when}`);
}

async function clicked() {
  const page = await open(browser, admin);
  await page.waitForSelector("text=pod-3");
  check(await page.locator("tbody tr", { hasText: "pod-" }).count() === 3, "three replicas are shown");
  const began = Date.now();
  await flood("mallory");
  await page.locator(".number-box.bad", { hasText: "refused" }).waitFor();
  await page.waitForFunction(() => {
    const drawn = document.querySelector("path.line.bad")?.getAttribute("d") ?? "";
    // Downwards is less: the line of no refusals lies at the bottom.
    return [...drawn.matchAll(/ ([\d.]+)/g)].some(([, y]) => Number(y) < 90);
  });
  check(Date.now() - began < 10_000 + 5_000, `the rise is shown within 10 s, not ${Date.now() - began} ms`);

  await page.click("nav >> text=Limits");
  const first = page.locator("tbody tr").first();
  await page.waitForFunction(() => document.querySelector("tbody tr a")?.textContent === "api/user");
  // Once the slot of the flood has ended, the small graph of its row shows it, and says so in words.
  await page.waitForFunction(() => /^requests at most [\d.<]+ a second, (in this minute|1 minute ago); refused at most [\d.<]+ a second, /.test(document.querySelector("tbody tr svg.small[role=img]")?.getAttribute("aria-label") ?? ""));
  check(await first.locator("svg.small path.line.bad").count() === 1, "the refusals are drawn");
  check(await page.locator("tbody tr", { hasText: "api/vault" }).locator("svg").count() === 0, "a limit that did nothing has none");
  check(await page.locator("button", { hasText: "Switch" }).count() === 0, "without a token there is no control");
  await first.locator("a").click();
  await page.locator("td a", { hasText: "user=mallory" }).click();
  await page.locator(".verdict", { hasText: "refused now by api/user" }).waitFor();
  check(await page.locator("[data-key=raise], [data-key=reset]").count() === 0, "without a token there is no change");

  await page.click("nav >> text=Live");
  await page.locator("main [role=status]", { hasText: "Watching 3 replicas for 15 minutes." }).waitFor();
  await flood("mallory", 6);
  await flood("peggy", 3);
  const lines = page.locator(".stream tbody tr");
  // The lines of all replicas, of those that are refused and of those that aren't.
  for (const pod of ["pod-1", "pod-2", "pod-3"]) await lines.filter({ hasText: "user=mallory" }).filter({ hasText: pod }).filter({ hasText: "refused" }).first().waitFor();
  await lines.filter({ hasText: "user=peggy" }).filter({ hasText: "admitted" }).first().waitFor();
  await page.fill("#field-entry", "user=peggy");
  await page.selectOption("#field-only", "denied");
  await page.click("main.live button[type=submit]");
  await page.locator("main [role=status]", { hasText: "Watching 3 replicas" }).waitFor();
  await flood("mallory", 6);
  await flood("peggy", 3);
  await page.waitForFunction(() => document.querySelectorAll(".stream tbody tr").length >= 3);
  check((await lines.allTextContents()).every((line) => line.includes("user=peggy") && line.includes("refused")), `only what the filters name: ${await lines.allTextContents()}`);
  await page.click("main.live >> text=Stop");
  await page.locator("main [role=status]", { hasText: "Stopped. 3 decisions." }).waitFor();

  await signIn(page, "secret");
  await message(page, "Signed in as ops");
  await page.click("nav >> text=Limits");
  await page.click("[data-key='switch api/user']");
  await page.locator("dialog td", { hasText: "denies nobody" }).waitFor();
  await page.click("dialog button[type=submit]");
  check(await page.locator("dialog").count() === 1, "without a reason nothing is switched");
  await page.fill("#field-reason", "ticket 42");
  await page.click("dialog button[type=submit]");
  await message(page, "in force on 3 of 3 replicas");
  await decided("mallory", true, "in shadow");

  await page.click("nav >> text=Changes");
  const change = page.locator("tbody tr", { hasText: "ticket 42" });
  await change.waitFor();
  check((await change.textContent()).includes("limit.switch") && (await change.textContent()).includes("ops"), "the change says what and who");

  await page.click("nav >> text=Fleet");
  await page.click("[data-key='restore api/user']");
  await page.fill("#field-reason", "ticket 42 is closed");
  await page.click("dialog button[type=submit]");
  await message(page, "as its rule says");
  await decided("mallory", false, "once restored");
  await page.click("#account");
  await page.click("dialog button[type=submit]");
  await page.locator("#account", { hasText: "Sign in" }).waitFor();
  await close(page);
}

/** Nothing here is a click. */
async function typed() {
  const page = await open(browser, admin);
  const key = page.keyboard;
  await key.press("s");
  await page.waitForSelector("dialog #field-token");
  await key.type("secret");
  await key.press("Enter");
  await page.locator("#account", { hasText: "ops" }).waitFor();
  await key.press("2");
  await page.waitForSelector("[data-key='switch api/user']");
  await tabTo(page, "limit api/user");
  await key.press("Enter");
  await page.waitForSelector("[data-key='who user=mallory']");
  await tabTo(page, "who user=mallory");
  await key.press("Enter");
  await page.locator(".verdict", { hasText: "refused now by api/user" }).waitFor();
  await key.press("4");
  await page.locator("main [role=status]", { hasText: "Watching 3 replicas" }).waitFor();
  await tabTo(page, "field-entry");
  await key.type("user=mallory");
  await key.press("Enter");
  await page.waitForFunction(() => location.hash.includes("entry=user%3Dmallory"));
  await page.locator("main [role=status]", { hasText: "Watching 3 replicas" }).waitFor();
  await flood("mallory", 3);
  await page.locator(".stream tbody tr", { hasText: "user=mallory" }).first().waitFor();
  await page.goBack();
  await page.locator(".verdict", { hasText: "refused now by api/user" }).waitFor();
  await tabTo(page, "switch api/user");
  await key.press("Enter");
  await tabTo(page, "field-mode");
  await key.press("Tab");
  await tabTo(page, "field-reason");
  await key.type("ticket 43");
  await key.press("Enter");
  await page.locator(".message", { hasText: "in force on 3 of 3 replicas" }).waitFor();
  await decided("mallory", true, "in shadow, by the keyboard");
  await key.press("7");
  await page.locator("tbody tr", { hasText: "ticket 43" }).waitFor();
  await key.press("1");
  await page.waitForSelector("[data-key='restore api/user']");
  await tabTo(page, "restore api/user");
  await key.press("Enter");
  await page.waitForSelector("dialog #field-reason");
  await key.type("ticket 43 is closed");
  await key.press("Enter");
  await page.locator(".message", { hasText: "as its rule says" }).waitFor();
  await decided("mallory", false, "once restored, by the keyboard");
  await key.press("?");
  await page.locator("dialog", { hasText: "dark or light" }).waitFor();
  await key.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  await close(page);
}

async function changes() {
  const page = await open(browser, `http://${told.http[0]}/console`);
  await page.locator(".note", { hasText: "Sign in with a token to look." }).waitFor();
  await signIn(page, "secret");
  await page.waitForSelector("text=pod-3");
  // A user: raise, then reset.
  await view(page, "user?domain=api&descriptor=user%3Dmallory");
  await page.click("[data-key=raise]");
  await page.locator(".preview", { hasText: "20 / hour" }).waitFor();
  await page.fill("#field-reason", "ticket 44");
  await page.click("dialog button[type=submit]");
  await message(page, "raised to 20 / hour");
  await page.locator(".verdict", { hasText: "admitted now" }).waitFor();
  await decided("mallory", true, "once raised");
  await flood("mallory", 30);
  await decided("mallory", false, "after the raised limit");
  await page.locator(".verdict", { hasText: "refused now" }).waitFor();
  await page.click("[data-key=reset]");
  await page.locator(".preview", { hasText: "api/user" }).waitFor();
  await page.fill("#field-reason", "ticket 44");
  await page.click("dialog button[type=submit]");
  await message(page, "1 counters were reset");
  await decided("mallory", true, "once reset");
  // Overrides: set, search, change, delete.
  await view(page, "overrides");
  await page.click("[data-key=new]");
  await page.fill("#field-match", "user=bob");
  await page.fill("#field-requests", "7");
  await page.locator(".preview", { hasText: "7 / hour" }).waitFor();
  await page.fill("#field-reason", "ticket 45");
  await page.click("dialog button[type=submit]");
  await message(page, "user:bob is set");
  check((await ask(told.http[2], { user: "bob" })).limit === 7, "bob has 7 on another replica");
  await page.fill("#field-key", "user");
  await page.fill("#field-value_prefix", "bo");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await page.locator("tbody tr", { hasText: "7 / hour" }).waitFor();
  await page.click("[data-key='edit user:bob']");
  await page.fill("#field-requests", "9");
  await page.fill("#field-reason", "ticket 45");
  await page.click("dialog button[type=submit]");
  await message(page, "user:bob is set");
  check((await ask(told.http[1], { user: "bob" })).limit === 9, "bob has 9");
  await page.locator("tbody tr", { hasText: "9 / hour" }).waitFor();
  await page.click("[data-key='delete user:bob']");
  await page.fill("#field-reason", "ticket 45 is closed");
  await page.click("dialog button[type=submit]");
  await message(page, "user:bob is deleted");
  check((await ask(told.http[1], { user: "bob" })).limit === 2, "bob has the rule's limit");
  await page.locator(".none", { hasText: "No override matches." }).waitFor();
  await close(page);
}

async function onlyLooking() {
  const page = await open(browser, `http://${told.http[1]}/console/`);
  await signIn(page, "look");
  for (const of of VIEWS) {
    await view(page, of === "user" ? "user?domain=api&descriptor=user%3Dmallory" : of);
    await page.waitForSelector(of === "live" ? "main.live [role=status]" : `main.${of} section`);
    const controls = await page.locator("main button").allTextContents();
    check(controls.every((text) => ["Explain", "Watch", "Stop", "Back", "Next"].includes(text)), `a token that may only look has no control in ${of}: ${controls}`);
  }
  const cookie = (await page.context().cookies()).map((of) => `${of.name}=${of.value}`).join("; ");
  const refused = await fetch(`http://${told.http[1]}/console/v1/domains/api/switches`, {
    method: "PUT", headers: { cookie, "content-type": "application/json" }, body: JSON.stringify({ limit_id: "user", mode: "off", for: "1h", reason: "no" }),
  });
  check(refused.status === 403, `the API refuses it too, not ${refused.status}`);
  const seen = await page.evaluate(() => document.cookie);
  check(seen === "", `no script reads the cookie: ${seen}`);
  await close(page);
}

async function hostile() {
  const values = ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "\u202edrowssap\u200b\u0007", "a,b\\,c=d", "\"'><svg onload=alert(3)>", "x".repeat(64 << 10)];
  const page = await open(browser, admin);
  await signIn(page, "secret");
  for (const value of values) {
    for (let time = 0; time < 5; time++) await ask(told.http[time % 3], { user: value });
    await view(page, "user");
    await page.waitForSelector("main.user form");
    const written = `user=${value.replace(/(\\*),/g, "$1$1\\,")}`;
    await page.fill("#field-descriptor", written);
    await page.click("main.user button[type=submit]");
    await page.locator(".verdict", { hasText: "refused now by api/user" }).waitFor();
    await page.click("[data-key=raise]");
    await page.fill("#field-reason", value.slice(0, 100).replace(/[\u0000-\u001f]/g, "") || "x");
    await page.click("dialog button[type=submit]");
    const done = page.locator(".message, dialog .note.bad:not([hidden])").first();
    await done.waitFor();
    // An override is smaller than 64 KiB: then the dialog says so.
    if (await page.locator("dialog").count() > 0) await page.keyboard.press("Escape");
    await page.evaluate(() => document.querySelectorAll(".message").forEach((of) => of.remove()));
  }
  for (const of of ["limits?domain=api&limit=api%2Fuser", "overrides", "changes"]) {
    await view(page, of);
    await page.waitForSelector(`main.${of.split("?")[0]} tbody tr`);
    await page.locator("main", { hasText: "<script>alert(1)</script>" }).first().waitFor();
    check(await page.locator("main script, main img").count() === 0, `what is hostile is text in ${of}`);
    check(!(await page.locator("main").textContent()).includes("\u202e"), `what turns text around is escaped in ${of}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    check(!wide, `a long value doesn't make the page of ${of} wider`);
  }
  // An override of 64 KiB is refused.
  await close(page, /status of 400/);
}

async function rules() {
  const page = await open(browser, admin);
  await view(page, "rules");
  const noErrors = () => page.waitForFunction(() => !document.querySelector(".note.bad:not([hidden])") && document.querySelector("main.rules .badge.good"));
  await noErrors();
  const good = readFileSync(told.rules, "utf8");
  // The comment is hostile.
  const broken = `${good.replace("shadow_mode: true", "shadow_mode: maybe")}# <script>alert(1)</script> \u202edrowssap <img src=x onerror=alert(2)>\n`;
  writeFileSync(told.rules, broken);
  await fetch(`${admin}-/reload`, { method: "POST" });
  await page.locator(".note.bad", { hasText: "api.yaml:5" }).waitFor();
  check((await page.locator("pre").first().textContent()).includes("maybe"), "the line is shown");
  if (told.bless) await shots("rules");
  // The whole file, as it was read, with the problem at its line.
  await page.click("[data-key^='problem ']");
  const bad = page.locator(".source li.bad");
  await bad.waitFor();
  check((await bad.textContent()).includes("shadow_mode: maybe") && await bad.getAttribute("data-key") === "line 5", `the line that is wrong is marked: ${await bad.textContent()}`);
  await bad.locator(".note.bad", { hasText: "error" }).waitFor();
  check(await bad.evaluate((of) => of === document.activeElement), "the line has the focus");
  const shown = (await page.locator(".source li > code").allTextContents()).join("\n");
  check(shown === broken.trimEnd().replace("\u202e", "\\u{202e}"), `all lines are shown, and what is hostile as text: ${shown}`);
  check(await page.locator("main script, main img").count() === 0, "what is hostile is text in a rule file");
  await page.locator("main", { hasText: "it has errors, and isn't in force" }).waitFor();
  if (told.bless) await shots("file");
  // What is in force is another text.
  await page.selectOption("#field-which", "true");
  await page.locator(".badge.good", { hasText: "what is in force" }).waitFor();
  check((await page.locator(".source li > code").allTextContents()).join("\n") === good.trimEnd(), "the text in force is shown");
  check(await page.locator(".source li.bad").count() === 0, "it has no problem");
  // By the keyboard alone: to the list, and to the file.
  await page.keyboard.press("6");
  await page.waitForSelector("[data-key^='problem ']");
  await tabTo(page, await page.locator("[data-key^='file ']").first().getAttribute("data-key"));
  await page.keyboard.press("Enter");
  await bad.waitFor();
  writeFileSync(told.rules, good);
  await fetch(`${admin}-/reload`, { method: "POST" });
  // The view follows.
  await page.locator(".badge.good", { hasText: "what is in force" }).waitFor();
  await view(page, "rules");
  await noErrors();
  await close(page);
}

/** What the service refuses to let watch is said in its words; a hostile value comes as text. */
async function refusedWatch() {
  const page = await open(browser, admin);
  await view(page, "live?limit=api%2Fnowhere");
  await page.locator("main [role=status]", { hasText: "It can't be watched: " }).waitFor();
  check((await page.locator("main [role=status]").textContent()).includes("api/nowhere"), await page.locator("main [role=status]").textContent());
  await page.fill("#field-limit", "");
  await page.selectOption("#field-only", "shadow");
  await page.click("main.live button[type=submit]");
  await page.locator("main [role=status]", { hasText: "Watching" }).waitFor();
  for (let time = 0; time < 3; time++) await ask(told.http[1], { tried: "<b>carol</b>" });
  await page.locator(".stream tr", { hasText: "tried=<b>carol</b>" }).filter({ hasText: "would refuse" }).first().waitFor();
  check(await page.locator(".stream b").count() === 0, "what is hostile is text in live");
  await close(page, /status of 404/);
}

/** What a short stream doesn't bring about: lines that are left out, and the end of its time. */
async function stream() {
  const page = await open(browser, admin);
  const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
  const decision = (value, code, more = {}) => event("decision", {
    replica: "pod-2", t: 1764361076.5, domain: "api", hits: 1, code, limit_id: "api/user", ...(code === "OK" ? {} : { denied_by: "api/user" }),
    descriptors: [{ entries: [{ key: "user", value }], limits: [{ limit_id: "api/user", code, requests: 2, window: 3600, remaining: 0, reset: 12.5, ...more }] }],
  });
  let asked = "";
  await page.route("**/v1/decisions*", (route) => {
    asked = route.request().url();
    route.fulfill({ headers: { "content-type": "text/event-stream" }, body: `:\n\n${event("started", { fleet: "shop-eu", replicas: 3, ends: "2026-11-28T20:57:56Z" })}${decision("<b>carol</b>", "OVER_LIMIT")}${decision("dave", "OK")}${decision("erin", "OVER_LIMIT", { shadow: true }).replace('"code":"OVER_LIMIT","limit_id":"api/user","denied_by"', '"code":"OK","limit_id":"api/user","passed"')}${event("left_out", { lines: 12 })}${event("ended", { why: "its time is over" })}` });
  });
  await view(page, "live?only=denied&entry=user%3Dcarol");
  await page.locator("main [role=status]", { hasText: "Ended: its time is over. 3 decisions, 12 left out." }).waitFor();
  check(/only=denied/.test(asked) && /entry=user%3Dcarol/.test(asked) && !/limit=/.test(asked), `the filters are asked for: ${asked}`);
  const rows = await page.locator(".stream tbody tr").allTextContents();
  check(rows.length === 3 && rows[2].includes("refused") && rows[2].includes("user=<b>carol</b>") && rows[1].includes("admitted") && rows[0].includes("would refuse"), `the newest is first: ${rows}`);
  await close(page);
}

/** Screenshots for the docs, light and dark. */
async function shots(...names) {
  mkdirSync(told.docs, { recursive: true });
  const addresses = { user: "user?domain=api&descriptor=user%3Dmallory", limits: "limits", limit: "limits?domain=api&limit=api%2Fuser", file: `rules?${new URLSearchParams({ path: told.rules, line: "5" })}` };
  const views = { limit: "limits", file: "rules", phone: "limits" };
  addresses.phone = "limits";
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, admin, { colorScheme });
    await signIn(page, "secret");
    await message(page, "Signed in");
    for (const name of names) {
      await page.setViewportSize(name === "phone" ? { width: 390, height: 800 } : { width: 1180, height: 640 });
      await view(page, addresses[name] ?? name);
      await page.waitForSelector(name === "live" ? ".stream tbody tr:nth-child(15)" : `main.${views[name] ?? name} section`);
      if (name === "fleet") await page.waitForSelector("text=pod-3");
      await page.screenshot({ path: `${told.docs}/${name}-${colorScheme}.png` });
    }
    await page.context().close();
  }
}

/** On a phone nothing is wider than the screen. */
async function phone() {
  const page = await open(browser, admin, { viewport: { width: 390, height: 800 } });
  for (const of of VIEWS) {
    await view(page, of === "user" ? "user?domain=api&descriptor=user%3Dmallory" : of);
    await page.waitForSelector(of === "live" ? "main.live [role=status]" : `main.${of} section`);
    const [width, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    check(width <= seen, `${of} is ${width} wide on a screen of ${seen}`);
  }
  await close(page);
}

try {
  const only = process.env.CONSOLE_PARTS?.split(",");
  for (const [name, part] of Object.entries({ clicked, typed, changes, onlyLooking, rules, refusedWatch, stream, phone, blessed, hostile })) {
    if (only && !only.includes(name)) continue;
    const began = Date.now();
    try { await part(); } catch (error) { throw new Error(`${name}: ${error.message}`, { cause: error }); }
    console.log(`${name}: ${Date.now() - began} ms`);
  }
} finally {
  await browser.close();
}

async function blessed() {
  if (!told.bless) return;
  const switched = { limit_id: "user", mode: "scale", factor: 3, for: "1h", reason: "ticket 46: a flood of one client" };
  await fetch(`${admin}v1/domains/api/switches`, { method: "PUT", headers: { authorization: "Bearer secret", "content-type": "application/json" }, body: JSON.stringify(switched) });
  // Something happens while the pictures are taken.
  let taken = false;
  const traffic = (async () => {
    for (let time = 0; !taken; time++) {
      await Promise.all([ask(told.http[time % 3], { user: time % 4 ? "mallory" : `user-${time % 40}` }), time % 3 ? null : ask(told.http[time % 3], { tried: `key-${time % 5}` })]);
    }
  })();
  const page = await open(browser, admin);
  await page.waitForFunction(() => [...document.querySelectorAll(".number-box b")][2]?.textContent !== "0");
  await close(page);
  await shots("fleet", "limits", "limit", "user", "live", "overrides", "changes", "phone");
  taken = true;
  await traffic;
  await fetch(`${admin}v1/domains/api/switches?limit_id=user&reason=closed`, { method: "DELETE", headers: { authorization: "Bearer secret" } });
}
