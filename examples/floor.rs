//! The floor that costs are compared with: a stock tonic server with one worker, which answers every `ShouldRateLimit` with
//! OK and decides nothing. Machines differ, and what they differ by, the floor feels too.
//!
//! `cargo run --release --example floor -- 127.0.0.1:9081`

use envoy_types::pb::{
    envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{DescriptorStatus, RateLimit},
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
    google::protobuf::Duration,
};
use tokio::runtime;
use tonic::{Request, Response, Status, transport::Server};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OK: i32 = 1;
const MINUTE: i32 = 2;

struct Floor;

#[tonic::async_trait]
impl RateLimitService for Floor {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let status = |_: &_| DescriptorStatus {
            code: OK,
            current_limit: Some(RateLimit { name: String::new(), requests_per_unit: 100, unit: MINUTE }),
            limit_remaining: 99,
            duration_until_reset: Some(Duration { seconds: 30, nanos: 0 }),
            ..DescriptorStatus::default()
        };
        let statuses = request.get_ref().descriptors.iter().map(status).collect();
        Ok(Response::new(RateLimitResponse { overall_code: OK, statuses, ..RateLimitResponse::default() }))
    }
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9081".to_owned()).parse()?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = Server::builder().tcp_nodelay(true).add_service(RateLimitServiceServer::new(Floor));
    Ok(runtime.block_on(server.serve(address))?)
}
