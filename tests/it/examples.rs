//! What `examples/`, `docker-compose.yml` and `Dockerfile` say must be true of this program. There is no container
//! engine here: they are parsed, and whatever in them is Envoy's or Tollgate's own is given to the real Envoy and to the
//! real binary.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use yaml_serde::Value;

use crate::harness::{envoy_binary, example_envoy_config, run_to_end};

pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn documents(path: &str) -> Vec<Value> {
    use serde::Deserialize;
    let text = read(path);
    yaml_serde::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}")))
        .collect()
}

/// The one object of `kind` called `name`.
pub(crate) fn object<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn assert_envoy_accepts(config: &Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("envoy.yaml");
    std::fs::write(&path, yaml_serde::to_string(config).unwrap()).unwrap();
    let output = Command::new(envoy_binary())
        .args(["--mode", "validate", "--disable-hot-restart", "-c"])
        .arg(path)
        .output()
        .expect("Envoy runs");
    assert!(output.status.success(), "Envoy refuses it:\n{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn assert_check_accepts(rules: &Path) {
    let output = run_to_end(&["check", rules.to_str().unwrap()], &[]);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 domain"), "tollgate check refuses it:\n{said}");
    assert!(!said.contains("warning"), "tollgate check warns:\n{said}");
}

#[test]
fn envoy_accepts_the_example_and_check_accepts_its_rules() {
    assert_envoy_accepts(&example_envoy_config());
    assert_check_accepts(&project("examples/envoy/rules"));
}

#[test]
fn envoy_accepts_what_the_istio_filters_put_into_it() {
    let filters = documents("examples/istio/envoyfilter.yaml");
    let filter = object(&filters, "EnvoyFilter", "tollgate-filter");
    let descriptors = object(&filters, "EnvoyFilter", "tollgate-descriptors");

    let mut config = example_envoy_config();
    let manager = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let inserted = filter["spec"]["configPatches"][0]["patch"]["value"].clone();
    let cluster = inserted["typed_config"]["rate_limit_service"]["grpc_service"]["envoy_grpc"]["cluster_name"].clone();
    manager["http_filters"][0] = inserted;
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    let patches = &descriptors["spec"]["configPatches"];
    host["rate_limits"] = patches[0]["patch"]["value"]["rate_limits"].clone();
    host["routes"][0]["route"]["rate_limits"] = patches[1]["patch"]["value"]["route"]["rate_limits"].clone();
    // Istio makes this cluster of the Service.
    assert_eq!(cluster, "outbound|8081||tollgate.tollgate.svc.cluster.local");
    config["static_resources"]["clusters"][1]["name"] = cluster.clone();
    config["static_resources"]["clusters"][1]["load_assignment"]["cluster_name"] = cluster;
    assert_envoy_accepts(&config);
}

/// Istio's proxy is built of Envoys before 1.40, which don't know the field, and a filter with one that isn't known is
/// refused whole: then nothing is limited.
#[test]
fn istio_is_not_given_what_only_newer_envoys_know() {
    let text = std::fs::read_to_string(project("examples/istio/envoyfilter.yaml")).expect("the example is there");
    assert!(!text.contains("enable_retry_after_header"), "{text}");
    let objects = documents("examples/istio/tollgate.yaml");
    let env = &object(&objects, "Deployment", "tollgate")["spec"]["template"]["spec"]["containers"][0]["env"];
    let retry = env.as_sequence().expect("a list").iter().find(|one| one["name"] == "TOLLGATE_RETRY_AFTER_HEADER");
    assert_eq!(retry.expect("Tollgate says it itself")["value"], "true");
}

#[test]
fn the_istio_filters_send_what_the_envoy_example_sends() {
    let filters = documents("examples/istio/envoyfilter.yaml");
    let patches = &object(&filters, "EnvoyFilter", "tollgate-descriptors")["spec"]["configPatches"];
    let config = example_envoy_config();
    let manager = &config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let host = &manager["route_config"]["virtual_hosts"][0];
    assert_eq!(patches[0]["patch"]["value"]["rate_limits"], host["rate_limits"]);
    assert_eq!(patches[1]["patch"]["value"]["route"]["rate_limits"], host["routes"][0]["route"]["rate_limits"]);
}

#[test]
fn the_config_map_holds_the_rules_of_the_envoy_example() {
    let objects = documents("examples/istio/tollgate.yaml");
    let text = object(&objects, "ConfigMap", "tollgate-rules")["data"]["api.yaml"].as_str().expect("a file's text");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("api.yaml"), text).unwrap();
    assert_check_accepts(dir.path());
    let [mounted, example]: [Value; 2] =
        [text, &read("examples/envoy/rules/api.yaml")].map(|text| yaml_serde::from_str(text).unwrap());
    assert_eq!(mounted, example);
}

#[test]
fn the_deployment_and_compose_set_only_variables_that_tollgate_reads() {
    let objects = documents("examples/istio/tollgate.yaml");
    let container = &object(&objects, "Deployment", "tollgate")["spec"]["template"]["spec"]["containers"][0];
    let deployed = container["env"].as_sequence().unwrap().iter().map(|variable| variable["name"].as_str().unwrap());
    let compose: Value = yaml_serde::from_str(&read("docker-compose.yml")).unwrap();
    let composed = compose["services"]["tollgate"]["environment"].as_mapping().unwrap();
    let (deployment, _) = gateway_deployment();
    let configured: Vec<String> = deployment["container"]["env"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap().to_owned())
        .collect();
    let configured = configured.iter().map(String::as_str);
    for name in deployed.chain(configured).chain(composed.keys().map(|name| name.as_str().unwrap())) {
        assert_is_read(name);
    }
}

/// Fails where `tollgate serve` doesn't know a variable.
pub(crate) fn assert_is_read(variable: &str) {
    let help = run_to_end(&["serve", "--help"], &[]);
    // Lines are wrapped, so that a name may stand on the next.
    let help: Vec<&str> = std::str::from_utf8(&help.stdout).expect("help is text").split_whitespace().collect();
    let known = help.windows(2).any(|words| words[0] == "[env:" && words[1].split(['=', ']']).next() == Some(variable));
    assert!(known, "`tollgate serve --help` does not know {variable}");
}

/// What Envoy Gateway is told of its rate limit deployment, and all that it is told.
fn gateway_deployment() -> (Value, Value) {
    let objects = documents("examples/envoy-gateway/envoy-gateway.yaml");
    let config = object(&objects, "ConfigMap", "envoy-gateway-config")["data"]["envoy-gateway.yaml"].as_str();
    let config: Value = yaml_serde::from_str(config.expect("a file's text")).expect("YAML");
    (config["provider"]["kubernetes"]["rateLimitDeployment"].clone(), config)
}

#[test]
fn envoy_gateway_is_given_another_image_and_a_redis() {
    let (deployment, config) = gateway_deployment();
    assert_eq!(
        (&config["apiVersion"], &config["kind"]),
        (&"gateway.envoyproxy.io/v1alpha1".into(), &"EnvoyGateway".into())
    );
    let istio = documents("examples/istio/tollgate.yaml");
    let image = &object(&istio, "Deployment", "tollgate")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(&deployment["container"]["image"], image, "the examples name one image");
    assert!(config["rateLimit"]["backend"]["redis"]["url"].as_str().unwrap().ends_with(":6379"));
    let replicas = &deployment["container"]["env"][0];
    assert_eq!(replicas["name"], "TOLLGATE_EXPECTED_REPLICAS");
    assert_eq!(replicas["value"].as_str().unwrap(), deployment["replicas"].as_u64().unwrap().to_string());
    // Its command is of the image.
    assert!(read("Dockerfile").contains("ratelimit ratelimit_client ratelimit_config_check"));
    let policies = documents("examples/envoy-gateway/policy.yaml");
    let policy = &object(&policies, "BackendTrafficPolicy", "per-user")["spec"];
    assert_eq!(policy["rateLimit"]["type"], "Global");
    let rule = &policy["rateLimit"]["global"]["rules"][0];
    assert!(rule["limit"]["requests"].as_u64().is_some() && rule["limit"]["unit"] == "Minute");
}

#[test]
fn the_deployment_probes_and_serves_on_ports_that_it_opens() {
    let objects = documents("examples/istio/tollgate.yaml");
    let container = &object(&objects, "Deployment", "tollgate")["spec"]["template"]["spec"]["containers"][0];
    let ports: Vec<_> = container["ports"].as_sequence().unwrap().iter().map(|port| &port["name"]).collect();
    for probe in ["livenessProbe", "readinessProbe"] {
        assert!(ports.contains(&&container[probe]["httpGet"]["port"]), "{probe}");
    }
    let service = object(&objects, "Service", "tollgate");
    for port in service["spec"]["ports"].as_sequence().unwrap() {
        assert!(ports.contains(&&port["targetPort"]), "{port:?}");
    }
}

#[test]
fn compose_mounts_what_is_there_and_the_image_builds_what_the_crate_has() {
    let compose: Value = yaml_serde::from_str(&read("docker-compose.yml")).unwrap();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(project(source).exists(), "{name:?} mounts {source}");
        }
    }
    for line in read("Dockerfile").lines().filter(|line| line.starts_with("COPY --from=build /src/")) {
        let source = line.split_whitespace().nth(2).unwrap().trim_start_matches("/src/");
        assert!(source == "target/release/tollgate" || project(source).exists(), "{line}");
    }
}

/// `.dockerignore` names what goes to the builder; Cargo refuses a manifest whose targets aren't all there.
#[test]
fn the_image_is_built_from_all_that_cargo_asks_for() {
    let context = tempfile::tempdir().unwrap();
    for kept in read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')) {
        std::os::unix::fs::symlink(project(kept), context.path().join(kept)).unwrap();
        assert!(project(kept).exists(), "{kept}");
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(context.path())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
