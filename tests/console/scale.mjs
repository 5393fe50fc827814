// Ten thousand rules and a hundred thousand override rows: each answer of the server within 50 ms, each view drawn within
// 500 ms of the key that asks for it.

import { check, close, open, start, told, view } from "./browser.mjs";

const browser = await start();
try {
  const page = await open(browser, `http://${told.admin}/`);
  await page.waitForSelector("main.fleet section");
  for (const [hash, shown] of [["limits", "main.limits tbody tr:nth-child(100)"], ["limits?search=key04242", "main.limits tbody tr"],
    ["limits?domain=api&limit=api%2Fkey04242", "main.limits section"], ["user?domain=api&descriptor=user%3Dclient099999", ".verdict"],
    ["overrides", "main.overrides section"], ["rules", "main.rules tbody tr"], ["changes", "main.changes section"], ["fleet", "main.fleet section"]]) {
    let best = Infinity;
    let slowest = { duration: 0, name: "" };
    // What another test takes of the machine meanwhile is none of its: the best of three counts.
    for (let time = 0; time < 3; time++) {
      await view(page, "live");
      await page.waitForSelector("main.live form");
      const [drawn, answers] = await page.evaluate(async ([to, selector]) => {
        performance.clearResourceTimings();
        const began = performance.now();
        location.hash = to;
        while (!document.querySelector(selector)) await new Promise((next) => requestAnimationFrame(next));
        const drawn = performance.now() - began;
        return [drawn, performance.getEntriesByType("resource").filter((of) => of.name.includes("/v1/") && !of.name.includes("openapi")).map((of) => ({ name: of.name, duration: of.responseStart - of.requestStart }))];
      }, [`#/${hash}`, shown]);
      if (drawn < best) {
        best = drawn;
        slowest = answers.reduce((one, other) => (other.duration > one.duration ? other : one), { duration: 0, name: "" });
      }
    }
    console.log(`${hash}: drawn in ${best.toFixed(0)} ms, slowest answer ${slowest.duration.toFixed(0)} ms`);
    check(best < 500, `${hash} is drawn within 500 ms, not ${best}`);
    check(slowest.duration < told.answer_ms, `${slowest.name} is answered within ${told.answer_ms} ms, not ${slowest.duration}`);
  }
  await close(page);
} finally {
  await browser.close();
}
