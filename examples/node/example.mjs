// The four calls, one after the other:
//   node examples/node/example.mjs http://localhost:8080 api <token>
import { Tollgate } from "./tollgate.mjs";

const [url = "http://localhost:8080", domain = "api", token] = process.argv.slice(2);
const tollgate = new Tollgate(url, { domain, token });

console.log("isAllowed:", await tollgate.isAllowed("alice"));
console.log("allowRequest:", await tollgate.allowRequest("alice", "/checkout"));
console.log("rateLimit:", await tollgate.rateLimit("alice", "login", 5, 60));
if (token !== undefined) {
  const saved = await tollgate.configureUserLimit("alice", 1000, 60, { reason: "contract 42" });
  console.log("configureUserLimit:", saved.limits[0].requests, "in", saved.limits[0].window_seconds, "s");
}
