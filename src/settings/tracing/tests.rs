use super::*;

fn read(flags: TracingFlags, environment: &[(&str, &str)]) -> Result<Option<TraceSettings>, Vec<String>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut read = SettingsReader::default();
    let settings = traces(&Flags { tracing: flags, ..Flags::default() }, &environment, &mut read);
    if read.wrong.is_empty() { Ok(settings) } else { Err(read.wrong) }
}

fn on() -> TracingFlags {
    TracingFlags { tracing_enabled: Some("true".into()), ..TracingFlags::default() }
}

fn settings(flags: TracingFlags, environment: &[(&str, &str)]) -> TraceSettings {
    read(flags, environment).expect("nothing is wrong").expect("tracing is on")
}

#[test]
fn without_tracing_enabled_nothing_is_traced_and_nothing_of_the_platforms_is_judged() {
    let wrong = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "::")];
    assert!(read(TracingFlags::default(), &wrong).expect("nobody asks").is_none());
    for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert!(read(on(), &[off]).expect("right").is_none(), "{off:?}");
    }
}

#[test]
fn the_endpoint_is_what_opentelemetry_says_it_is() {
    let base = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "http://localhost:4318/v1/traces"),
        (&[grpc], "http://localhost:4317/"),
        (&[(base, "http://collector:4318")], "http://collector:4318/v1/traces"),
        (&[(base, "http://collector:4318/otel/")], "http://collector:4318/otel/v1/traces"),
        (&[(base, "http://a:1"), (own, "https://b:2/spans")], "https://b:2/spans"),
        (&[grpc, (base, "https://collector:4317")], "https://collector:4317/"),
        (&[grpc, (base, "collector:4317")], "https://collector:4317/"),
        (&[grpc, (base, "collector:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")], "http://collector:4317/"),
    ];
    for (environment, expected) in cases {
        assert_eq!(settings(on(), environment).destination.uri.to_string(), *expected, "{environment:?}");
    }
}

#[test]
fn the_references_variables_come_first_and_opentelemetrys_say_the_rest() {
    let flags = TracingFlags {
        tracing_service_name: Some("limits".into()),
        tracing_exporter_protocol: Some("grpc".into()),
        tracing_sampling_rate: Some("0.25".into()),
        ..on()
    };
    let environment = [
        ("OTEL_SERVICE_NAME", "other"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=third,team=a%20b, service.instance.id = pod-1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%3Db,x=y"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
    ];
    let settings = settings(flags, &environment);
    let of = |key: &str| settings.resource.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(of("service.name"), Some("limits"));
    assert_eq!((of("team"), of("service.instance.id")), (Some("a b"), Some("pod-1")));
    assert_eq!(settings.sampler, Sampler { respects_parent: true, ratio: 0.25 });
    let to = &settings.destination;
    assert_eq!((to.protocol, to.timeout, to.gzip), (OtlpProtocol::Grpc, Duration::from_millis(1_500), true));
    assert_eq!(to.headers["api-key"], "a=b");
    assert_eq!(to.headers["x"], "y");
    assert!(!format!("{to:?}").contains("a=b"), "settings may be logged");
    assert_eq!((settings.queue_max, settings.batch_max), (10, 10), "a batch is never more than can wait");
}

#[test]
fn a_replica_without_a_name_gets_a_random_one() {
    let id = || settings(on(), &[]).resource.into_iter().find(|(key, _)| key == "service.instance.id").unwrap().1;
    let (one, other) = (id(), id());
    assert_ne!(one, other);
    assert!(one.len() == 36 && one.as_bytes()[14] == b'4' && b"89ab".contains(&one.as_bytes()[19]), "{one}");
}

#[test]
fn samplers_are_those_of_opentelemetry() {
    let argument = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
    for (name, heeds_parent, ratio) in [
        ("always_on", false, 1.0),
        ("always_off", false, 0.0),
        ("traceidratio", false, 0.5),
        ("parentbased_always_on", true, 1.0),
        ("parentbased_always_off", true, 0.0),
        ("parentbased_traceidratio", true, 0.5),
    ] {
        let sampler = settings(on(), &[("OTEL_TRACES_SAMPLER", name), argument]).sampler;
        assert_eq!(sampler, Sampler { respects_parent: heeds_parent, ratio }, "{name}");
    }
    assert_eq!(settings(on(), &[]).sampler, Sampler { respects_parent: true, ratio: 1.0 });
}

#[test]
fn every_wrong_value_is_named() {
    let wrong = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://a"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_PROPAGATORS", "tracecontext,jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ];
    let lines = read(TracingFlags { tracing_sampling_rate: Some("2".into()), ..on() }, &wrong).unwrap_err();
    for name in wrong.map(|(name, _)| name).into_iter().chain(["TRACING_SAMPLING_RATE"]) {
        assert!(lines.iter().any(|line| line.contains(name)), "no {name} in {lines:#?}");
    }
    assert_eq!(lines.len(), wrong.len() + 1, "{lines:#?}");
}
