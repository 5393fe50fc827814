//! Compiles the protos to one descriptor set, which gRPC reflection serves, and to Rust for our own service. In Rust, so
//! that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::{
    FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const OURS: &str = "tollgate.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["envoy/service/ratelimit/v3/rls.proto", "tollgate/v1/tollgate.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("tollgate.fds"), descriptors.encode_to_vec())?;
    generate(descriptors)?;
    Ok(())
}

/// Our messages are also what HTTP speaks as JSON: unknown fields are refused, and what is empty is left out.
fn generate(descriptors: FileDescriptorSet) -> std::io::Result<()> {
    let mut builder = tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .type_attribute(".", "#[serde(default, deny_unknown_fields)]");
    let ours = FileDescriptorSet { file: descriptors.file.into_iter().filter(|file| file.package() == OURS).collect() };
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
const ALWAYS: [&str; 3] =
    ["ListOverridesResponse.overrides", "ListAuditResponse.entries", "ResetCounterResponse.counters"];

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
        (_, "count_denied", ..) => {
            format!("with = \"{forms}::count_denied\", skip_serializing_if = \"String::is_empty\"")
        }
        (.., Label::Repeated, _) => "skip_serializing_if = \"Vec::is_empty\"".into(),
        _ if field.proto3_optional() => "skip_serializing_if = \"Option::is_none\"".into(),
        (.., Type::Message) => "skip_serializing_if = \"Option::is_none\"".into(),
        (.., Type::String) => "skip_serializing_if = \"String::is_empty\"".into(),
        _ => return None,
    })
}
