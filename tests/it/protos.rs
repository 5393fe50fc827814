//! The code and the descriptors that are made of `proto/` are kept in `proto/generated`, so that a build needs neither a
//! compiler of protos nor the time to build one. They are what the protos say: made anew here and compared.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::{
    FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const OURS: &str = "tollgate.v1";

/// Protos that clients are served, in the order that reflection lists them.
const SERVED: [&str; 2] = ["envoy/service/ratelimit/v3/rls.proto", "tollgate/v1/tollgate.proto"];

/// Protos whose messages are exchanged and which are no service of ours.
const SPOKEN: [&str; 2] =
    ["envoy/service/discovery/v3/discovery.proto", "ratelimit/config/ratelimit/v3/rls_conf.proto"];

/// With `TOLLGATE_BLESS` set the files are written anew; what changed is then for `git diff` to show.
#[test]
fn the_generated_code_is_what_the_protos_say() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/generated");
    let made = tempfile::tempdir().expect("a directory");
    generate(made.path()).expect("the protos compile");
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        replace(&kept, made.path()).expect("proto/generated is written");
    }
    let (made, kept) = (files(made.path()).expect("made"), files(&kept).expect("proto/generated is read"));
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "{ANEW}");
    for (name, bytes) in &made {
        assert!(kept[name] == *bytes, "proto/generated/{name} is not what the protos say; {ANEW}");
    }
}

const ANEW: &str = "TOLLGATE_BLESS=1 cargo test --test it the_generated_code writes it anew";

fn files(directory: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let read = |entry: fs::DirEntry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    entries.into_iter().map(read).collect()
}

fn replace(kept: &Path, made: &Path) -> io::Result<()> {
    for name in files(kept)?.keys() {
        fs::remove_file(kept.join(name))?;
    }
    files(made)?.into_iter().try_for_each(|(name, bytes)| fs::write(kept.join(name), bytes))
}

fn generate(out: &Path) -> io::Result<()> {
    let protos = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto");
    let compile = |files: &[&str]| protox::compile(files, [&protos]).map_err(io::Error::other);
    let served = compile(&SERVED)?;
    fs::write(out.join("served.fds"), served.encode_to_vec())?;
    ours(&served, out)?;
    let mut others = compile(&[SERVED.as_slice(), &SPOKEN].concat())?;
    others.file.retain(|file| file.package() != OURS);
    tonic_prost_build::configure()
        .build_server(false)
        .compile_well_known_types(true)
        .out_dir(out)
        .include_file("envoy.rs")
        .compile_fds(others)
}

/// Our messages are also what HTTP speaks as JSON: unknown fields are refused, and what is empty is left out.
fn ours(served: &FileDescriptorSet, out: &Path) -> io::Result<()> {
    let mut builder = tonic_prost_build::configure()
        .out_dir(out)
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .type_attribute(".", "#[serde(default, deny_unknown_fields)]");
    let file = served.file.iter().filter(|file| file.package() == OURS).cloned().collect();
    let ours = FileDescriptorSet { file };
    for message in ours.file.iter().flat_map(|file| &file.message_type) {
        for field in &message.field {
            let path = format!("{OURS}.{}.{}", message.name(), field.name());
            if let Some(attribute) = json(message.name(), field) {
                builder = builder.field_attribute(path, format!("#[serde({attribute})]"));
            }
        }
    }
    builder.compile_fds(ours)
}

/// Lists that answers always have: a page without rows is `[]`, for whoever goes through them.
const ALWAYS: [&str; 10] = [
    "ListOverridesResponse.overrides",
    "ListAuditResponse.entries",
    "ResetCounterResponse.counters",
    "TopResponse.entries",
    "ListSwitchesResponse.switches",
    "ListChangesResponse.changes",
    "GetFleetResponse.replicas",
    "GetFleetResponse.attention",
    "GetFleetResponse.switches",
    "GetFleetResponse.refusing",
];

/// The JSON form of a message's field, where it isn't the obvious one.
fn json(message: &str, field: &FieldDescriptorProto) -> Option<String> {
    if ALWAYS.contains(&format!("{message}.{}", field.name()).as_str()) {
        return None;
    }
    let forms = "crate::front::api::json";
    Some(match (field.type_name(), field.name(), field.label(), field.r#type()) {
        (".tollgate.v1.Entry", ..) => {
            format!("with = \"{forms}::entries\", skip_serializing_if = \"Vec::is_empty\"")
        }
        (".tollgate.v1.Limit", ..) => format!("with = \"{forms}::limits\", skip_serializing_if = \"Vec::is_empty\""),
        (_, "hits", ..) if message == "CheckRequest" => {
            format!("deserialize_with = \"{forms}::hits::deserialize\", skip_serializing_if = \"Option::is_none\"")
        }
        (_, "count_denied", ..) => {
            format!("with = \"{forms}::count_denied\", skip_serializing_if = \"String::is_empty\"")
        }
        // A share is written as rule files do: `enforce: 10%`.
        (_, "enforce_share", ..) if message == "Limit" => {
            "rename(serialize = \"enforce\"), skip_serializing_if = \"String::is_empty\"".into()
        }
        (.., Label::Repeated, _) => "skip_serializing_if = \"Vec::is_empty\"".into(),
        _ if field.proto3_optional() => "skip_serializing_if = \"Option::is_none\"".into(),
        (.., Type::Message) => "skip_serializing_if = \"Option::is_none\"".into(),
        (.., Type::String) => "skip_serializing_if = \"String::is_empty\"".into(),
        _ => return None,
    })
}
