//! A tonic client of the rate limit service, and short ways to write its requests.

use std::net::SocketAddr;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use tonic::{
    IntoRequest, Status,
    transport::{Channel, Endpoint},
};

#[derive(Clone)]
pub(crate) struct Rls {
    client: RateLimitServiceClient<Channel>,
}

impl Rls {
    /// Connects at the first call, and again after a connection was lost.
    pub(crate) fn at(address: SocketAddr) -> Rls {
        Rls::over(channel(address))
    }

    pub(crate) fn over(channel: Channel) -> Rls {
        Rls { client: RateLimitServiceClient::new(channel) }
    }

    pub(crate) async fn ask(&self, request: impl IntoRequest<RateLimitRequest>) -> Result<RateLimitResponse, Status> {
        self.client.clone().should_rate_limit(request).await.map(tonic::Response::into_inner)
    }

    /// Whether one hit of one descriptor is admitted.
    pub(crate) async fn admits(&self, domain: &str, entries: &[(&str, &str)]) -> bool {
        let answer = self.ask(request(domain, vec![descriptor(entries)])).await.expect("a decision");
        answer.overall_code() == Code::Ok
    }

    /// The number of the limit that one descriptor meets; `None` where none does.
    pub(crate) async fn limit_of(&self, domain: &str, entries: &[(&str, &str)]) -> Option<u32> {
        let answer = self.ask(request(domain, vec![descriptor(entries)])).await.expect("a decision");
        answer.statuses[0].current_limit.as_ref().map(|limit| limit.requests_per_unit)
    }
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI").connect_lazy()
}

pub(crate) fn request(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: 0 }
}

pub(crate) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = entries.iter().map(|&(key, value)| Entry { key: key.to_owned(), value: value.to_owned() }).collect();
    RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
}
