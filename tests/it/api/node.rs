//! The JavaScript client against the real service: its four calls, and its errors.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{RULES, with_tokens};
use crate::harness::{RulesDir, Tollgate};

/// Runs `script` with a client `tollgate` in scope; what it puts into `out` is returned.
fn node(tollgate: &Tollgate, options: Value, script: &str) -> Value {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node/tollgate.mjs");
    let program = format!(
        "import {{ Tollgate, TollgateError }} from {client:?};\nconst out = [];\n\
         const tollgate = new Tollgate(\"http://{}/\", {options});\n\
         const said = async (call) => call.then((value) => value, (error) => [error.name, error.status]);\n\
         {script}\nconsole.log(JSON.stringify(out));",
        tollgate.http
    );
    let output = Command::new("node").args(["--input-type=module", "--eval", &program]).output();
    let output = output.expect("tests/run.sh installs node");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The id under which the client keeps a user's own limit.
pub(crate) fn override_id(tollgate: &Tollgate, user: &str) -> String {
    let script = format!("out.push((await tollgate.configureUserLimit({user:?}, 5, 60)).id);");
    let options = json!({"domain": "api", "token": "secret", "timeoutMs": 30_000});
    node(tollgate, options, &script)[0].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn the_client_checks_in_every_form() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "for (let n = 0; n < 4; n++) out.push(await tollgate.isAllowed('alice'));\n\
                  for (let n = 0; n < 3; n++) out.push(await tollgate.allowRequest('alice', '/checkout'));\n\
                  out.push(await tollgate.rateLimit('alice', 'upload', 1, 3600));\n\
                  const refused = await tollgate.rateLimit('alice', 'upload', 1, 3600);\n\
                  out.push(refused.allowed, refused.retryAfterSeconds > 3000);";
    let first = json!({"allowed": true, "retryAfterSeconds": 0});
    let wanted = json!([true, true, true, false, true, true, false, first, false, true]);
    assert_eq!(node(&tollgate, json!({"timeoutMs": 30_000}), script), wanted);
}

#[tokio::test]
async fn the_client_tells_errors_from_refusals() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "out.push(await said(tollgate.isAllowed('')));\n\
                  out.push(await said(tollgate.configureUserLimit('alice', 1, 60)));\n\
                  const nobody = new Tollgate('http://127.0.0.1:1');\n\
                  out.push(await said(nobody.isAllowed('alice')));";
    let error = |status: Value| json!(["TollgateError", status]);
    let wanted = json!([error(json!(400)), error(json!(401)), ["TollgateError", null]]);
    assert_eq!(node(&tollgate, json!({"domain": "api", "timeoutMs": 30_000}), script), wanted);
}

#[tokio::test]
async fn the_client_gives_a_user_a_limit_of_their_own() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "for (const user of ['alice', 'al ice/é']) {\n\
                    const saved = await tollgate.configureUserLimit(user, 5, 60.5, { reason: 'contract 42' });\n\
                    out.push(saved.id, saved.limits[0].window_seconds);\n\
                    let passed = 0;\n\
                    while (passed < 10 && (await tollgate.isAllowed(user))) passed++;\n\
                    out.push(passed);\n\
                  }";
    let options = json!({"domain": "api", "token": "secret", "timeoutMs": 30_000});
    let wanted = json!(["user:alice", 60.5, 5, "user:al~20ice~2f~c3~a9", 60.5, 5]);
    assert_eq!(node(&tollgate, options, script), wanted);
}

/// `fetch` opens a connection for each call under way, and the service closes those of one address beyond 250: without a
/// bound of its own the client would have no answer just where many ask.
#[tokio::test]
async fn the_client_asks_over_no_more_connections_than_the_service_takes() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "const asked = Array.from({ length: 600 }, (_, n) => said(tollgate.isAllowed(`user ${n}`)));\n\
                  const answers = await Promise.all(asked);\n\
                  out.push(answers.filter((answer) => answer === true).length);";
    assert_eq!(node(&tollgate, json!({"timeoutMs": 30_000}), script), json!([600]));
}

#[tokio::test]
async fn a_call_that_waits_for_a_connection_waits_no_longer_than_its_time() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "const { createServer } = await import('node:net');\n\
                  const silent = createServer(() => {}).listen(0, '127.0.0.1');\n\
                  await new Promise((ready) => silent.once('listening', ready));\n\
                  const url = `http://127.0.0.1:${silent.address().port}`;\n\
                  const slow = new Tollgate(url, { timeoutMs: 200, connections: 1 });\n\
                  out.push(...(await Promise.all([1, 2, 3].map(() => said(slow.isAllowed('alice'))))));\n\
                  silent.close();";
    let unanswered = json!(["TollgateError", null]);
    let wanted = json!([unanswered, unanswered, unanswered]);
    assert_eq!(node(&tollgate, json!({}), script), wanted);
}

#[tokio::test]
async fn the_client_gives_the_headers_to_pass_on() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "for (let n = 0; n < 4; n++) {\n\
                    const { allowed, headers } = await tollgate.check({ user: 'alice' });\n\
                    out.push(allowed, Object.keys(headers).sort());\n\
                  }";
    let passes = [json!(true), json!(["ratelimit", "ratelimit-policy"])];
    let refused = [json!(false), json!(["ratelimit", "ratelimit-policy", "retry-after"])];
    let wanted = Value::from([&passes[..], &passes, &passes, &refused].concat());
    assert_eq!(node(&tollgate, json!({"timeoutMs": 30_000}), script), wanted);
}
