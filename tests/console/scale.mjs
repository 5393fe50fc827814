// Ten thousand rules and a hundred thousand overrides, thirty thousand of which were set while running: each answer of the server within 50 ms, each view drawn within
// 500 ms of the key that asks for it.

import { PATIENCE, check, close, open, start, told, view } from "./browser.mjs";

const browser = await start();
try {
  const page = await open(browser, `http://${told.admin}/`);
  await page.waitForSelector("main.fleet section");
  for (const [hash, shown] of [["limits", "main.limits tbody tr:nth-child(100)"], ["limits?search=key04242", "main.limits tbody tr"],
    ["limits?domain=api&limit=api%2Fkey04242", "main.limits section"], ["user?domain=api&descriptor=user%3Dset029999", ".verdict"],
    ["overrides", "main.overrides tbody tr:nth-child(100)"],
    ["overrides?key=user&value_prefix=set0299", "main.overrides tbody tr:nth-child(100)"], ["overrides?id=user%3Aset029999", "main.overrides tbody tr"], ["rules", "main.rules tbody tr"], ["live", "main.live .stream:not([hidden])"],
    [`rules?${new URLSearchParams({ path: told.rules, line: "5000" })}`, ".source [data-key='line 5000']"],
    [`rules?${new URLSearchParams({ path: told.rows, line: "69000" })}`, ".source [data-key='line 69000']"], ["changes", "main.changes section"], ["fleet", "main.fleet section"]]) {
    let best = Infinity;
    let slowest = { duration: Infinity, name: "" };
    // What others take of the machine meanwhile, and the service's start, is none of its: the first that is good enough counts.
    for (const began = Date.now(); Date.now() - began < PATIENCE && !(best < 500 && slowest.duration < told.answer_ms);) {
      await view(page, "user");
      await page.waitForSelector("main.user form");
      const [drawn, answers] = await page.evaluate(async ([to, selector]) => {
        performance.clearResourceTimings();
        const began = performance.now();
        location.hash = to;
        while (!document.querySelector(selector)) {
          if (performance.now() - began > 30_000) throw new Error(`${to} never shows ${selector}`);
          await new Promise((next) => requestAnimationFrame(next));
        }
        const drawn = performance.now() - began;
        return [drawn, performance.getEntriesByType("resource").filter((of) => of.name.includes("/v1/")).map((of) => ({ name: of.name, duration: of.responseStart - of.requestStart }))];
      }, [`#/${hash}`, shown]);
      best = Math.min(best, drawn);
      const last = answers.reduce((one, other) => (other.duration > one.duration ? other : one), { duration: 0, name: "" });
      if (last.duration < slowest.duration) slowest = last;
    }
    console.log(`${hash}: drawn in ${best.toFixed(0)} ms, slowest answer ${slowest.duration.toFixed(0)} ms`);
    check(best < 500, `${hash} is drawn within 500 ms, not ${best}`);
    check(slowest.duration < told.answer_ms, `${slowest.name} is answered within ${told.answer_ms} ms, not ${slowest.duration}`);
  }
  // Page after page, to the last line of the file.
  await view(page, `rules?${new URLSearchParams({ path: told.rules, line: "9400" })}`);
  await page.waitForSelector("[data-key='line 9400']");
  await page.click("[data-key=more]");
  await page.waitForSelector("[data-key='line 10004']");
  check(await page.locator("[data-key=more]").count() === 0, "the last page is the last");
  await page.click("[data-key=back]");
  await page.waitForSelector("[data-key='line 9400']");
  // The same of limits and of overrides set while running, which share the piece.
  await view(page, "limits?by=id");
  for (const [key, first] of [["more", "101 to 200"], ["more", "201 to 300"], ["back", "101 to 200"], ["back", "1 to 100"]]) {
    await page.click(`[data-key=${key}]`);
    await page.locator("main.limits .row.end", { hasText: first }).waitFor();
  }
  await view(page, "overrides?key=user");
  for (const [key, first] of [["more", "user=set000100"], ["more", "user=set000200"], ["back", "user=set000100"], ["back", "user=set000000"]]) {
    await page.click(`[data-key=${key}]`);
    await page.locator("main.overrides tbody tr:first-child", { hasText: first }).waitFor();
  }
  await close(page);
} finally {
  await browser.close();
}
