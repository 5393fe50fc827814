// Every query of every panel, and every recording rule, against a real Prometheus that scrapes a real Tollgate: none may be
// an error, or empty. An alert that fires leads into the runbook. `node tests/dashboards.mjs [BINARY]`; ends with 1 and what
// was empty.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("..", import.meta.url).pathname;
const binary = process.argv[2] ?? join(root, "target/debug/tollgate");
const folder = mkdtempSync(join(tmpdir(), "dashboards-"));
const children = [];
/** How long it may take until everything has an answer, in ms. */
const PATIENCE = 90_000;
/** Where an alert leads that fires here. */
const RUNBOOK = "docs/src/operating/runbook.md#tollgateshadowwouldrefuse";

const freePort = () => new Promise((give) => {
  const server = createServer().listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => give(port)); });
});

function start(command, args, env) {
  const child = spawn(command, args, { env: env ?? process.env, stdio: "ignore" });
  child.on("error", (error) => { console.error(`${command}: ${error.message}`); process.exitCode = 1; });
  children.push(child);
}

/** Every query, with the variables of its dashboard filled in. */
function queries() {
  const found = [];
  const filled = (expr) => expr.replaceAll("$__rate_interval", "10s").replaceAll("$instance", ".*").replaceAll("$domain", ".*").replaceAll("$limit", "api/user");
  for (const file of readdirSync(join(root, "deploy/grafana")).filter((name) => name.endsWith(".json"))) {
    const { panels } = JSON.parse(readFileSync(join(root, "deploy/grafana", file), "utf8"));
    for (const panel of panels) for (const target of panel.targets) found.push([`${file}, ${panel.title}`, filled(target.expr)]);
  }
  for (const [, name] of readFileSync(join(root, "deploy/prometheus/recording.yaml"), "utf8").matchAll(/- record: (\S+)/g)) found.push(["recording.yaml", name]);
  return found;
}

try {
  const [redis, http, admin, grpc, metrics, prometheus] = await Promise.all(Array.from({ length: 6 }, freePort));
  writeFileSync(join(folder, "api.yaml"), "domain: api\ndescriptors:\n  - {key: user, rate_limit: {requests: 2, window: 1h}}\n  - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1h}}\n");
  // The rules as they are, but recorded every second: nobody waits for half a minute here.
  writeFileSync(join(folder, "recording.yaml"), readFileSync(join(root, "deploy/prometheus/recording.yaml"), "utf8").replace("interval: 30s", "interval: 1s"));
  writeFileSync(join(folder, "prometheus.yml"), `global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [recording.yaml, ${join(root, "deploy/prometheus/alerts.yaml")}]\nscrape_configs: [{job_name: tollgate, static_configs: [{targets: ["127.0.0.1:${metrics}"]}]}]\n`);
  start("redis-server", ["--port", redis, "--save", "", "--dir", folder]);
  start(binary, ["serve"], {
    TOLLGATE_RULES: join(folder, "api.yaml"), REDIS_URL: `127.0.0.1:${redis}`, TOLLGATE_STORE_TIMEOUT: "1s",
    HOST: "127.0.0.1", PORT: http, GRPC_HOST: "127.0.0.1", GRPC_PORT: grpc, DEBUG_PORT: admin, PROMETHEUS_ADDR: `127.0.0.1:${metrics}`,
  });
  start("prometheus", [`--config.file=${join(folder, "prometheus.yml")}`, `--storage.tsdb.path=${join(folder, "data")}`, `--web.listen-address=127.0.0.1:${prometheus}`]);

  const post = (body) => fetch(`http://127.0.0.1:${http}/v1/check`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const ask = async (query) => {
    const answer = await (await fetch(`http://127.0.0.1:${prometheus}/api/v1/query?query=${encodeURIComponent(query)}`)).json();
    if (answer.status !== "success") throw new Error(`${query}: ${answer.error}`);
    return answer.data.result;
  };

  const began = Date.now();
  let left = queries();
  let link;
  const all = left.length;
  let why = "";
  for (let user = 0; (left.length > 0 || !link) && Date.now() - began < PATIENCE; user++) {
    // Traffic goes on meanwhile: some passes, some is refused, some would be.
    try {
      for (let time = 0; time < 5; time++) await post({ domain: "api", descriptors: [{ entries: { user: `user-${user % 50}` } }, { entries: { tried: "x" } }] });
      const still = [];
      for (const [where, query] of left) {
        const values = (await ask(query)).map((of) => Number(of.value[1])).filter((value) => !Number.isNaN(value));
        if (values.length === 0) still.push([where, query]);
      }
      left = still;
      const { data } = await (await fetch(`http://127.0.0.1:${prometheus}/api/v1/alerts`)).json();
      link = data.alerts.find((of) => of.labels.alertname === "TollgateShadowWouldRefuse")?.annotations.runbook_url;
    } catch (error) {
      if (error instanceof TypeError) { why = error.message; await new Promise((next) => setTimeout(next, 100)); } else throw error;
    }
  }
  if (left.length > 0) throw new Error(`nothing came of (${why}):\n${left.map(([where, query]) => `  ${where}: ${query}`).join("\n")}`);
  if (link !== RUNBOOK) throw new Error(`an alert leads to ${link}, not to ${RUNBOOK}`);
  console.log(`${all} queries have an answer, after ${Date.now() - began} ms`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
