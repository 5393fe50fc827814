//! The calls over gRPC, as the service `tollgate.v1.Tollgate`. Brings each its request and takes back its answer.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, async_trait, codec::CompressionEncoding};

use super::{
    Api, ApiError, CheckRequest, CheckResponse, DeleteOverrideRequest, DeleteOverrideResponse, ExplainResponse,
    GetFleetRequest, GetFleetResponse, GetHistoryRequest, GetHistoryResponse, GetOverrideRequest, GetRuleTextRequest,
    GetRuleTextResponse, GetRulesRequest, GetRulesResponse, ListAuditRequest, ListAuditResponse, ListChangesRequest,
    ListChangesResponse, ListLimitsRequest, ListLimitsResponse, ListOverridesRequest, ListOverridesResponse,
    ListSwitchesRequest, ListSwitchesResponse, Override, ResetCounterRequest, ResetCounterResponse,
    RestoreLimitRequest, RestoreLimitResponse, SetOverrideRequest, SetOverrideResponse, SetSwitchRequest,
    SetSwitchResponse, TopRequest, TopResponse, WatchDecisionsRequest, WatchDecisionsResponse,
    pb::tollgate_server::{Tollgate, TollgateServer},
};
use crate::front::envoy::MESSAGE_BYTES_MAX;

/// The service, for a listener to serve beside others.
pub fn service(api: Arc<Api>) -> TollgateServer<impl Tollgate> {
    TollgateServer::new(Calls { api })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
}

struct Calls {
    api: Arc<Api>,
}

/// The call's metadata `authorization`. What isn't text can't be a token, and is refused as none.
fn authorization<T>(request: &Request<T>) -> Option<String> {
    request.metadata().get("authorization").map(|value| value.to_str().unwrap_or_default().to_owned())
}

fn answered<T>(answer: Result<T, ApiError>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(Status::from)
}

#[async_trait]
impl Tollgate for Calls {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.check(who.as_deref(), request.into_inner().escaped()).await.map(|checked| checked.answer))
    }

    async fn explain(&self, request: Request<CheckRequest>) -> Result<Response<ExplainResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.explain(who.as_deref(), request.into_inner()).await)
    }

    async fn set_override(
        &self,
        request: Request<SetOverrideRequest>,
    ) -> Result<Response<SetOverrideResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.set_override(who.as_deref(), request.into_inner()).await)
    }

    async fn get_override(&self, request: Request<GetOverrideRequest>) -> Result<Response<Override>, Status> {
        let who = authorization(&request);
        answered(self.api.get_override(who.as_deref(), request.into_inner()).await)
    }

    async fn list_overrides(
        &self,
        request: Request<ListOverridesRequest>,
    ) -> Result<Response<ListOverridesResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.list_overrides(who.as_deref(), request.into_inner()).await)
    }

    async fn delete_override(
        &self,
        request: Request<DeleteOverrideRequest>,
    ) -> Result<Response<DeleteOverrideResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.delete_override(who.as_deref(), request.into_inner()).await)
    }

    async fn reset_counter(
        &self,
        request: Request<ResetCounterRequest>,
    ) -> Result<Response<ResetCounterResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.reset_counter(who.as_deref(), request.into_inner()).await)
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Result<Response<ListAuditResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.list_audit(who.as_deref(), request.into_inner()).await)
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.list_changes(who.as_deref(), request.into_inner()).await)
    }

    async fn set_switch(&self, request: Request<SetSwitchRequest>) -> Result<Response<SetSwitchResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.set_switch(who.as_deref(), request.into_inner()).await)
    }

    async fn restore_limit(
        &self,
        request: Request<RestoreLimitRequest>,
    ) -> Result<Response<RestoreLimitResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.restore_limit(who.as_deref(), request.into_inner()).await)
    }

    async fn list_switches(
        &self,
        request: Request<ListSwitchesRequest>,
    ) -> Result<Response<ListSwitchesResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.list_switches(who.as_deref(), request.into_inner()).await)
    }

    async fn get_fleet(&self, request: Request<GetFleetRequest>) -> Result<Response<GetFleetResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.get_fleet(who.as_deref(), request.into_inner()).await)
    }

    type WatchDecisionsStream = Pin<Box<dyn Stream<Item = Result<WatchDecisionsResponse, Status>> + Send>>;

    async fn watch_decisions(
        &self,
        request: Request<WatchDecisionsRequest>,
    ) -> Result<Response<Self::WatchDecisionsStream>, Status> {
        let who = authorization(&request);
        let watching = self.api.watch_decisions(who.as_deref(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(watching.map(|event| Ok(event.into())))))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<GetHistoryResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.get_history(who.as_deref(), request.into_inner()).await)
    }

    async fn list_limits(&self, request: Request<ListLimitsRequest>) -> Result<Response<ListLimitsResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.list_limits(who.as_deref(), request.into_inner()).await)
    }

    async fn get_rules(&self, request: Request<GetRulesRequest>) -> Result<Response<GetRulesResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.get_rules(who.as_deref(), request.into_inner()).await)
    }

    async fn get_rule_text(
        &self,
        request: Request<GetRuleTextRequest>,
    ) -> Result<Response<GetRuleTextResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.get_rule_text(who.as_deref(), request.into_inner()).await)
    }

    async fn top(&self, request: Request<TopRequest>) -> Result<Response<TopResponse>, Status> {
        let who = authorization(&request);
        answered(self.api.top(who.as_deref(), request.into_inner()).await)
    }
}
