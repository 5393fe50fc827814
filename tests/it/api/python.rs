//! The Python client against the real service: its answers, its errors, and its connections.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{RULES, with_tokens};
use crate::harness::{RulesDir, Tollgate};

/// Runs `script` with the client's module in scope; what it puts into `out` is returned.
fn python(tollgate: &Tollgate, script: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let program = format!(
        "import json, sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, {folder:?})\n\
         from tollgate import Tollgate, TollgateError\nout, url = [], \"http://{}\"\n\
         tollgate = Tollgate(url, timeout=30)\n\
         def said(call):\n    try: return call()\n    except TollgateError as error: return [error.status, str(error)]\n\
         {script}\nprint(json.dumps(out))",
        tollgate.http
    );
    let output = Command::new("python3").args(["-c", &program]).output().expect("tests/run.sh installs python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn the_client_checks_and_gives_the_headers_to_pass_on() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "for _ in range(3):\n    \
                  decision, headers = tollgate.check(user='alice', endpoint='/checkout')\n    \
                  out.append([decision['allowed'], sorted(headers)])";
    let passes = json!([true, ["ratelimit", "ratelimit-policy"]]);
    let refused = json!([false, ["ratelimit", "ratelimit-policy", "retry-after"]]);
    assert_eq!(python(&tollgate, script), json!([passes, passes, refused]));
}

#[tokio::test]
async fn the_client_tells_errors_from_refusals() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "out.append(said(lambda: tollgate.check(user=''))[0])\n\
                  out.append(said(lambda: tollgate.check(user='alice', domain='nosuch'))[0])\n\
                  out.append(said(lambda: tollgate.call('GET', '/v1/domains/api/overrides'))[0])\n\
                  long = Tollgate(url, token='x' * 40000, timeout=30)\n\
                  out.append(said(lambda: long.check(user='alice'))[0])\n\
                  out.append(said(lambda: Tollgate('http://127.0.0.1:1').check(user='alice'))[0])\n\
                  admin = Tollgate(url, token='secret', timeout=30)\n\
                  out.append(admin.call('GET', '/v1/domains/api/overrides')[0])";
    assert_eq!(python(&tollgate, script), json!([400, 404, 401, 431, null, {"overrides": []}]));
}

/// A connection that was kept may have been closed since, and one whose answer came too late has that answer still to come.
#[tokio::test]
async fn the_client_goes_on_after_a_connection_that_closed_and_after_an_answer_that_came_too_late() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "import socket, threading\n\
                  listener = socket.create_server(('127.0.0.1', 0))\n\
                  late = threading.Event()\n\
                  def serve():\n    \
                    answer = lambda n: b'HTTP/1.1 200 OK\\r\\ncontent-length: 16\\r\\n\\r\\n{\"allowed\": %d}  ' % n\n    \
                    for n in (1, 2):\n        \
                      with listener.accept()[0] as client: client.recv(4096); client.sendall(answer(n))\n    \
                    client = listener.accept()[0]; client.recv(4096); late.wait(); client.close()\n    \
                    client = listener.accept()[0]; client.recv(4096); client.sendall(answer(4))\n\
                  threading.Thread(target=serve, daemon=True).start()\n\
                  kept = Tollgate('http://127.0.0.1:%d' % listener.getsockname()[1], timeout=30)\n\
                  for _ in range(2): out.append(kept.check(user='alice')[0]['allowed'])\n\
                  kept.timeout = 0.2\n\
                  out.append(said(lambda: kept.check(user='alice'))[0])\n\
                  late.set()\n\
                  kept.timeout = 30\n\
                  out.append(kept.check(user='alice')[0]['allowed'])";
    assert_eq!(python(&tollgate, script), json!([1, 2, null, 4]));
}

#[tokio::test]
async fn the_client_asks_over_no_more_connections_than_the_service_takes() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let script = "from concurrent.futures import ThreadPoolExecutor\n\
                  with ThreadPoolExecutor(300) as threads:\n    \
                  asked = threads.map(lambda n: tollgate.check(user='user %d' % n)[0]['allowed'], range(600))\n    \
                  out.append(sum(asked))";
    assert_eq!(python(&tollgate, script), json!([600]));
}
