//! A response as a set of rules: its resources decoded, compiled as files are, and what is wrong with them in words that
//! fit into an answer. The whole set is taken or none of it, as the protocol has it.

use std::path::Path;

use crate::proto::{
    envoy::service::discovery::v3::{DiscoveryResponse, Resource},
    google::protobuf::Any,
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::render::rendered;
use crate::rules::{self, Defaults, LoadedRules, LoadedTexts, Problems, Rules};
use crate::sources::problem_log;

pub(super) const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Some control planes put a resource into this, with its name beside it.
const WRAPPER_URL: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Mistakes that a refusal lists: what names them all may be more than a control plane takes.
const LISTED_MAX: usize = 20;

pub(super) type Digest = [u8; 32];

/// Equal for responses that say the same, whatever their nonces are. Resources have no order: go-control-plane sends
/// them in another one each time.
pub(super) fn digest(response: &DiscoveryResponse) -> Digest {
    let mut resources: Vec<Digest> = response.resources.iter().map(resource_digest).collect();
    resources.sort_unstable();
    let mut hash = Sha256::new();
    hash.update((response.version_info.len() as u64).to_le_bytes());
    hash.update(&response.version_info);
    for resource in resources {
        hash.update(resource);
    }
    hash.finalize().into()
}

fn resource_digest(resource: &Any) -> Digest {
    let mut hash = Sha256::new();
    for part in [resource.type_url.as_bytes(), &resource.value] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Decodes, checks and compiles. Rules of a set with errors must not be used.
pub(super) fn load(response: &DiscoveryResponse, defaults: &Defaults) -> LoadedRules {
    let (mut configs, mut undecodable) = (Vec::with_capacity(response.resources.len()), Problems::default());
    for (index, resource) in response.resources.iter().enumerate() {
        match decode(resource) {
            Ok(config) => configs.push(rendered(&config)),
            Err(why) => {
                let what = format!("it can't be decoded: {why}");
                undecodable.refuse(Path::new(&format!("xds:resources[{index}]")), &what, &format!("send a {TYPE_URL}"));
            }
        }
    }
    if undecodable.has_errors() {
        return LoadedRules {
            rules: Rules::default(),
            problems: undecodable,
            kept_domains: Vec::new(),
            texts: LoadedTexts::default(),
        };
    }
    // Messages come in any order, and replicas with the same rules must agree that they are the same.
    configs.sort_by(|(one, _), (other, _)| one.cmp(other));
    rules::load_values(&configs, defaults)
}

fn decode(resource: &Any) -> Result<RateLimitConfig, String> {
    match resource.type_url.as_str() {
        TYPE_URL => RateLimitConfig::decode(resource.value.as_slice()).map_err(|error| error.to_string()),
        WRAPPER_URL => {
            let wrapper = Resource::decode(resource.value.as_slice()).map_err(|error| error.to_string())?;
            let resource = wrapper.resource.filter(|inner| inner.type_url == TYPE_URL);
            decode(&resource.ok_or("what is wrapped in it is none")?)
        }
        other => Err(format!("it is a {other}")),
    }
}

/// Logs what is wrong.
pub(super) fn log_problems(problems: &Problems) {
    problem_log::log(problems.iter(), problems.more(), "the control plane's rules");
}

/// The errors, a line each.
pub(super) fn summary(problems: &Problems) -> String {
    let mut errors: Vec<String> = problems.errors().take(LISTED_MAX).map(ToString::to_string).collect();
    let more = problems.errors().count() + problems.more() - errors.len();
    if more > 0 {
        errors.push(format!("and {more} more"));
    }
    errors.join("\n")
}
