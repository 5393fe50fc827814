//! `deploy/kubernetes/`: there is no cluster here, so the manifests are parsed, held against each other, and what in them is
//! Tollgate's own (variables, ports, probes, rules) is given to the real binary.

use std::{collections::BTreeSet, time::Duration};

use yaml_serde::Value;

use crate::{
    examples::{assert_check_accepts, assert_is_read, documents, object, project, read},
    harness::{RulesDir, Tollgate, eventually, get},
};

const FOLDER: &str = "deploy/kubernetes";

/// All objects that the kustomization lists.
fn objects() -> Vec<Value> {
    let kustomization = &documents(&format!("{FOLDER}/kustomization.yaml"))[0];
    let files: BTreeSet<&str> =
        kustomization["resources"].as_sequence().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let there: BTreeSet<String> = std::fs::read_dir(project(FOLDER))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let listed = files.iter().chain(&["kustomization.yaml"]).map(|file| (*file).to_owned()).collect();
    assert_eq!(there, listed, "every file is listed, and every one listed is there");
    files.iter().flat_map(|file| documents(&format!("{FOLDER}/{file}"))).collect()
}

fn pod(objects: &[Value]) -> Value {
    object(objects, "Deployment", "tollgate")["spec"]["template"].clone()
}

fn env(container: &Value) -> Vec<(String, String)> {
    let variables = container["env"].as_sequence().unwrap().iter();
    variables.map(|v| (v["name"].as_str().unwrap().to_owned(), v["value"].as_str().unwrap().to_owned())).collect()
}

/// The numbers of the container's ports, by name.
fn ports(container: &Value) -> Vec<(String, u64)> {
    let ports = container["ports"].as_sequence().unwrap().iter();
    ports.map(|p| (p["name"].as_str().unwrap().to_owned(), p["containerPort"].as_u64().unwrap())).collect()
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|number| number.parse().ok()).expect("whole seconds")
}

#[tokio::test]
async fn the_binary_starts_with_the_deployments_variables_and_answers_its_probes() {
    let objects = objects();
    let container = &pod(&objects)["spec"]["containers"][0];
    let (rules, secrets, state) = (RulesDir::empty(), RulesDir::with("none", ""), tempfile::tempdir().unwrap());
    let config = object(&objects, "ConfigMap", "tollgate-rules")["data"]["api.yaml"].as_str().unwrap();
    rules.write("api.yaml", config);
    assert_check_accepts(rules.path());
    let auth = secrets.path().join("none");
    let (tokens, digest) = (secrets.path().join("tokens"), tokens_of_the_kustomization());
    std::fs::write(&tokens, digest).unwrap();
    let mut env = env(container);
    for (name, value) in &mut env {
        assert_is_read(name);
        // What is a place in the pod is a place here, and there is no Redis.
        match name.as_str() {
            "TOLLGATE_RULES" => *value = rules.path().to_str().unwrap().to_owned(),
            "TOLLGATE_STATE_DIR" => *value = state.path().to_str().unwrap().to_owned(),
            "REDIS_AUTH_FILE" => *value = auth.to_str().unwrap().to_owned(),
            "REDIS_URL" => *value = "127.0.0.1:1".to_owned(),
            "TOLLGATE_API_TOKEN_FILE" => *value = tokens.to_str().unwrap().to_owned(),
            _ => {}
        }
    }
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let http = &container[probe]["httpGet"];
        assert_eq!(http["port"], "http", "{probe}");
        let path = http["path"].as_str().unwrap();
        // A start without Redis waits ten seconds for its overrides before it is ready; it lives at once.
        if probe == "readinessProbe" {
            eventually("it is ready", || async {
                get(tollgate.http, path, &[]).await.ok().filter(|answer| answer.status == 200)
            })
            .await;
        }
        let answer = get(tollgate.http, path, &[]).await.expect("an answer");
        assert_eq!(answer.status, 200, "{probe}, without Redis");
    }
}

/// What the lines that the kustomization says put into a file.
fn tokens_of_the_kustomization() -> String {
    let page = read(&format!("{FOLDER}/kustomization.yaml"));
    let lines = page.lines().filter_map(|line| line.strip_prefix("#   "));
    let script: Vec<&str> = lines.filter(|line| line.starts_with("TOKEN=") || line.starts_with("printf ")).collect();
    assert_eq!(script.len(), 2, "{script:?}");
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("sh").args(["-ec", &script.join("\n")]).current_dir(folder.path()).status();
    assert!(made.unwrap().success());
    let named = page.lines().find(|line| line.contains("--from-file=")).expect("a Secret is made of it");
    assert!(named.contains(" tollgate-tokens ") && named.ends_with("=tokens"), "{named}");
    std::fs::read_to_string(folder.path().join("tokens")).expect("the file is named as the Secret's key")
}

#[test]
fn its_ports_are_the_binarys_defaults_and_the_only_ones_that_are_let_through() {
    let objects = objects();
    let container = &pod(&objects)["spec"]["containers"][0];
    let page = read("docs/src/operating/listeners.md");
    for (name, port) in ports(container) {
        let default = page.lines().find(|line| line.to_lowercase().starts_with(&format!("| {name} |")));
        assert!(default.is_some_and(|line| line.contains(&format!(":{port}`"))), "{name} {port}");
    }
    let named: BTreeSet<String> = ports(container).into_iter().map(|(name, _)| name).collect();
    let policy = &object(&objects, "NetworkPolicy", "tollgate")["spec"];
    let rules = policy["ingress"].as_sequence().unwrap().iter();
    let let_in: BTreeSet<String> = rules
        .flat_map(|rule| rule["ports"].as_sequence().unwrap())
        .map(|port| port["port"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(let_in, named);
    for port in object(&objects, "Service", "tollgate")["spec"]["ports"].as_sequence().unwrap() {
        assert!(named.contains(port["targetPort"].as_str().unwrap()), "{port:?}");
    }
    let annotation = &pod(&objects)["metadata"]["annotations"]["prometheus.io/port"];
    assert!(ports(container).contains(&("metrics".to_owned(), annotation.as_str().unwrap().parse().unwrap())));
    // The other way round, Redis is let out to where REDIS_URL says.
    let redis = env(container).into_iter().find(|(name, _)| name == "REDIS_URL").unwrap().1;
    let port: u64 = redis.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(policy["egress"].as_sequence().unwrap().iter().any(|rule| rule["ports"][0]["port"] == port));
}

#[test]
fn what_selects_pods_selects_these_and_a_disruption_takes_one_at_a_time() {
    let objects = objects();
    let labels = &pod(&objects)["metadata"]["labels"];
    assert_eq!(&object(&objects, "Deployment", "tollgate")["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&object(&objects, "Service", "tollgate")["spec"]["selector"], labels);
    let budget = &object(&objects, "PodDisruptionBudget", "tollgate")["spec"];
    assert_eq!((&budget["selector"]["matchLabels"], &budget["maxUnavailable"]), (labels, &1.into()));
    assert_eq!(&object(&objects, "NetworkPolicy", "tollgate")["spec"]["podSelector"]["matchLabels"], labels);
    let autoscaler = &object(&objects, "HorizontalPodAutoscaler", "tollgate")["spec"];
    assert_eq!(
        (&autoscaler["scaleTargetRef"]["kind"], &autoscaler["scaleTargetRef"]["name"]),
        (&"Deployment".into(), &"tollgate".into())
    );
    assert!(autoscaler["minReplicas"].as_u64() > budget["maxUnavailable"].as_u64());
    // A share of CPU needs to know of what.
    assert!(pod(&objects)["spec"]["containers"][0]["resources"]["requests"]["cpu"].as_str().is_some());
}

#[test]
fn a_pod_is_given_the_time_that_it_takes_to_drain() {
    let objects = objects();
    let pod = &pod(&objects)["spec"];
    let container = &pod["containers"][0];
    let of = |name: &str| seconds(&env(container).into_iter().find(|(found, _)| found == name).expect("it is set").1);
    let needed = of("TOLLGATE_DRAIN_DELAY") + of("TOLLGATE_SHUTDOWN_TIMEOUT");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > needed);
    // Envoy looks names up every 5 s by default, after the probe has failed and the Service has heard of it.
    let probe = &container["readinessProbe"];
    let unready = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert!(of("TOLLGATE_DRAIN_DELAY") > unready + 2 * Duration::from_secs(5).as_secs());
    assert_eq!(object(&objects, "Deployment", "tollgate")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
}

#[test]
fn it_runs_as_nobody_and_writes_only_where_it_must() {
    let objects = objects();
    let pod = &pod(&objects)["spec"];
    let (whole, container) = (&pod["securityContext"], &pod["containers"][0]);
    assert_eq!((&whole["runAsNonRoot"], &whole["runAsUser"]), (&true.into(), &65534.into()));
    assert_eq!(whole["seccompProfile"]["type"], "RuntimeDefault");
    let own = &container["securityContext"];
    assert_eq!((&own["readOnlyRootFilesystem"], &own["allowPrivilegeEscalation"]), (&true.into(), &false.into()));
    assert_eq!(own["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let env = env(container);
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    for mount in mounts {
        let volumes = pod["volumes"].as_sequence().unwrap();
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount:?}");
        let path = mount["mountPath"].as_str().unwrap();
        assert!(env.iter().any(|(_, value)| value.starts_with(path)), "nothing is read at {path}");
        let is_state = env.iter().any(|(name, value)| name == "TOLLGATE_STATE_DIR" && value == path);
        assert_eq!(mount["readOnly"] != true, is_state, "{mount:?}");
        assert!(mount["subPath"].is_null(), "a subPath never changes");
    }
    for (name, value) in env.iter().filter(|(_, value)| value.starts_with('/')) {
        assert!(
            mounts.iter().any(|mount| value.starts_with(mount["mountPath"].as_str().unwrap())),
            "{name} is not mounted"
        );
    }
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("gcr.io/distroless/") && last.contains("\nUSER 65534:65534\n"), "the image's own user");
}
