// A real Chromium with the console in it, and what the scripts here share. Nothing sleeps: each step waits for what it is
// about to look at, and what never comes fails with its name.

import { chromium } from "playwright-core";

/** How long something may take to be seen, in ms. */
export const PATIENCE = 30_000;

export const told = JSON.parse(process.argv[2]);

/** @param {unknown} holds @param {string} what */
export function check(holds, what) {
  if (!holds) throw new Error(`not so: ${what}`);
}

export async function start() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page of its own, whose errors fail the run at its end. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.faults = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) page.faults.push(message.text()); });
  page.on("pageerror", (error) => page.faults.push(error.message));
  page.on("dialog", (dialog) => { page.faults.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(new URL(url).origin)) page.faults.push(`loaded from elsewhere: ${request.url()}`); });
  await page.goto(url);
  await page.waitForSelector("nav a[aria-current]");
  return page;
}

/** Nothing was wrong in the page, but for answers of the API that `refused` matches: a browser logs each as an error. */
export async function close(page, refused) {
  const faults = page.faults.filter((fault) => !refused?.test(fault));
  check(faults.length === 0, `no fault in the browser, but ${JSON.stringify(faults)}`);
  await page.context().close();
}

export async function view(page, hash) {
  await page.evaluate((to) => { location.hash = to; }, `#/${hash}`);
}

export async function signIn(page, token) {
  await page.click("#account");
  await page.fill("#field-token", token);
  await page.click("dialog button[type=submit]");
  await page.waitForSelector("dialog", { state: "detached" });
}

/** What a check is answered by a replica. */
export async function ask(address, entries, hits = 1) {
  const descriptors = [{ entries: Object.entries(entries).map(([key, value]) => ({ key, value })) }];
  const response = await fetch(`http://${address}/v1/check`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ domain: "api", descriptors, hits }),
  });
  return response.json();
}

/** Waits for the message that tells of a change, and closes it. */
export async function message(page, text) {
  const found = page.locator(".message", { hasText: text });
  await found.waitFor();
  await found.locator("button").click();
}

/** Presses Tab until what has this key has the focus. */
export async function tabTo(page, key) {
  for (let presses = 0; presses < 80; presses++) {
    if (await page.evaluate((of) => document.activeElement?.dataset?.key === of || document.activeElement?.id === of, key)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`no way to ${key} with Tab`);
}
