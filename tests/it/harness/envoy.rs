//! The real Envoy with the configuration of `examples/envoy`, its addresses and ports replaced by those of the test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use yaml_serde::Value;

use super::{Answer, Process, eventually, get};

/// Envoy's `failure_mode_deny`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    Pass,
    Deny,
}

/// As its documentation has it.
const REDIS_PROXY: &str = "
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: redis
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: {op_timeout: 5s}
          prefix_routes: {catch_all_route: {cluster: redis}}
  clusters:
  - name: redis
    type: STATIC
    lb_policy: MAGLEV
    load_assignment: {cluster_name: redis, endpoints: [{lb_endpoints: []}]}
";

pub(crate) struct Envoy {
    process: Process,
    _dir: TempDir,
    pub(crate) ingress: SocketAddr,
    admin: SocketAddr,
}

impl Envoy {
    pub(crate) async fn start(app: SocketAddr, tollgates: &[SocketAddr], on_failure: OnFailure) -> Envoy {
        Envoy::start_placed(&placed(example_envoy_config(), app, tollgates, on_failure)).await
    }

    /// With the example's `rate_limits` replaced by these, in YAML. They go to the filter's own configuration: Envoy
    /// heeds a `hits_addend` only there.
    pub(crate) async fn start_limiting(app: SocketAddr, tollgates: &[SocketAddr], rate_limits: &str) -> Envoy {
        let mut config = placed(example_envoy_config(), app, tollgates, OnFailure::Deny);
        let manager = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let host = manager["route_config"]["virtual_hosts"][0].as_mapping_mut().expect("the example's virtual host");
        host.remove("rate_limits").expect("the example's rate_limits stand in its virtual host");
        let mut own: Value = yaml_serde::from_str(&format!("rate_limits:\n{rate_limits}")).expect("plain YAML");
        own["@type"] = Value::from("type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute");
        host.insert("typed_per_filter_config".into(), mapping("envoy.filters.http.ratelimit", own));
        Envoy::start_placed(&config).await
    }

    /// With active health checks, as a control plane would tell it who is ready.
    pub(crate) async fn start_watching(app: SocketAddr, tollgates: &[SocketAddr]) -> Envoy {
        let mut config = placed(example_envoy_config(), app, tollgates, OnFailure::Deny);
        let clusters = config["static_resources"]["clusters"].as_sequence_mut().expect("clusters are a list");
        let tollgate = clusters.iter_mut().find(|cluster| cluster["name"] == "tollgate").expect("the example has one");
        // A replica that is slow on a busy machine is not one that is down.
        let checks = "[{timeout: 10s, interval: 0.1s, no_traffic_interval: 0.1s, unhealthy_threshold: 1, \
                      healthy_threshold: 1, grpc_health_check: {}}]";
        tollgate["health_checks"] = yaml_serde::from_str(checks).expect("plain YAML");
        tollgate["common_lb_config"] =
            yaml_serde::from_str("{healthy_panic_threshold: {value: 0}}").expect("plain YAML");
        Envoy::start_placed(&config).await
    }

    /// With the cluster of Tollgate under another name, which Envoy sends as `:authority`.
    pub(crate) async fn start_naming(app: SocketAddr, tollgate: SocketAddr, name: &str) -> Envoy {
        let mut config = placed(example_envoy_config(), app, &[tollgate], OnFailure::Pass);
        let clusters = config["static_resources"]["clusters"].as_sequence_mut().expect("clusters are a list");
        let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "tollgate").expect("the example has one");
        cluster["name"] = Value::from(name);
        let of_calls = mapping("envoy_grpc", mapping("cluster_name", Value::from(name)));
        filter(&mut config)["rate_limit_service"]["grpc_service"] = of_calls;
        Envoy::start_placed(&config).await
    }

    /// With Google's gRPC client, over a Unix socket.
    pub(crate) async fn start_google(app: SocketAddr, socket: &Path) -> Envoy {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = placed(example_envoy_config(), app, &[anywhere], OnFailure::Pass);
        let mut of_calls = mapping("target_uri", Value::from(format!("unix:{}", socket.display())));
        of_calls["stat_prefix"] = Value::from("tollgate");
        filter(&mut config)["rate_limit_service"]["grpc_service"] = mapping("google_grpc", of_calls);
        Envoy::start_placed(&config).await
    }

    /// Of `examples/side-by-side`: passes calls on to `now`, with a copy to `tollgate`.
    pub(crate) async fn between(now: SocketAddr, tollgate: SocketAddr) -> Envoy {
        let mut config = example("examples/side-by-side/envoy.yaml");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        config["admin"]["address"] = address(anywhere);
        let resources = &mut config["static_resources"];
        resources["listeners"][0]["address"] = address(anywhere);
        place(&mut resources["clusters"], &[("now", &[now]), ("tollgate", &[tollgate])]);
        Envoy::start_placed(&config).await
    }

    /// As a proxy of Redis: each command goes to one of these ports, by its first key.
    pub(crate) async fn before_redis(ports: &[u16]) -> Envoy {
        let mut config: Value = yaml_serde::from_str(REDIS_PROXY).expect("plain YAML");
        let at = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        let at: Vec<SocketAddr> = ports.iter().map(at).collect();
        place(&mut config["static_resources"]["clusters"], &[("redis", &at)]);
        Envoy::start_placed(&config).await
    }

    /// Waits for a line of its log, access logs included, in which `find` finds something.
    pub(crate) async fn log_line<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.process.line(what, find).await
    }

    /// Neither reads nor writes any more, and keeps its connections.
    pub(crate) fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// What Envoy itself says of its clusters' hosts.
    pub(crate) async fn clusters(&self) -> String {
        get(self.admin, "/clusters", &[]).await.expect("Envoy's admin listener answers").body
    }

    async fn start_placed(config: &Value) -> Envoy {
        let text = yaml_serde::to_string(config).expect("plain YAML");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (config, admin) = (dir.path().join("envoy.yaml"), dir.path().join("admin"));
        std::fs::write(&config, text).expect("the directory is ours");
        let mut command = Command::new(envoy_binary());
        // Without hot restart any number of Envoys run side by side.
        command.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]);
        command.arg("-c").arg(config).arg("--admin-address-path").arg(&admin);
        let process = Process::spawn("envoy", &mut command);
        let admin = ready(&admin).await;
        let ingress = ingress(admin).await;
        Envoy { process, _dir: dir, ingress, admin }
    }

    /// One request of `user`; every request gets an answer, or the test has failed.
    pub(crate) async fn get(&self, user: &str, path: &str) -> Answer {
        get(self.ingress, path, &[("x-user-id", user)]).await.expect("Envoy answers")
    }
}

/// Waits for Envoy's admin address, then until it is ready.
async fn ready(admin_file: &Path) -> SocketAddr {
    let admin: SocketAddr = eventually("Envoy writes its admin address", || async {
        std::fs::read_to_string(admin_file).ok()?.trim().parse().ok()
    })
    .await;
    eventually("Envoy is ready", || async {
        get(admin, "/ready", &[]).await.ok().filter(|answer| answer.status == 200).map(|_| ())
    })
    .await;
    admin
}

/// Where its listener was bound.
async fn ingress(admin: SocketAddr) -> SocketAddr {
    let listeners = get(admin, "/listeners?format=json", &[]).await.expect("a ready Envoy answers").json();
    let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = address["port_value"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a bound listener");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The binary that `tests/run.sh` installs.
pub(crate) fn envoy_binary() -> PathBuf {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/lib");
    std::fs::read_dir(&libraries)
        .into_iter()
        .flatten()
        .filter_map(|python| Some(python.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|binary| binary.is_file())
        .unwrap_or_else(|| panic!("no Envoy under {}: run tests/run.sh once, it installs one", libraries.display()))
}

pub(crate) fn example_envoy_config() -> Value {
    example("examples/envoy/envoy.yaml")
}

fn example(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    yaml_serde::from_str(&std::fs::read_to_string(path).expect("the example is there")).expect("the example is YAML")
}

fn placed(mut config: Value, app: SocketAddr, tollgates: &[SocketAddr], on_failure: OnFailure) -> Value {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    config["admin"]["address"] = address(anywhere);
    config["static_resources"]["listeners"][0]["address"] = address(anywhere);
    let filter = filter(&mut config);
    filter["failure_mode_deny"] = Value::Bool(on_failure == OnFailure::Deny);
    // Longer than any pause of a busy test machine: a late answer must not pass for an admitted request.
    filter["timeout"] = Value::from("10s");
    place(&mut config["static_resources"]["clusters"], &[("app", &[app]), ("tollgate", tollgates)]);
    config
}

/// The rate limit filter's own configuration.
fn filter(config: &mut Value) -> &mut Value {
    let chain = &mut config["static_resources"]["listeners"][0]["filter_chains"][0];
    &mut chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]
}

/// Gives each cluster its endpoints.
fn place(clusters: &mut Value, all: &[(&str, &[SocketAddr])]) {
    for cluster in clusters.as_sequence_mut().expect("clusters are a list") {
        let name = cluster["name"].as_str().expect("a cluster has a name");
        let found = all.iter().find(|(known, _)| *known == name);
        let (_, at) =
            found.unwrap_or_else(|| panic!("the example has a cluster that the harness does not know: {name}"));
        let endpoints = at.iter().copied().map(endpoint).collect();
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = Value::Sequence(endpoints);
    }
}

fn endpoint(at: SocketAddr) -> Value {
    mapping("endpoint", mapping("address", address(at)))
}

fn address(at: SocketAddr) -> Value {
    let mut socket = mapping("address", Value::from(at.ip().to_string()));
    socket["port_value"] = Value::from(at.port());
    mapping("socket_address", socket)
}

fn mapping(key: &str, value: Value) -> Value {
    Value::Mapping([(Value::from(key), value)].into_iter().collect())
}
