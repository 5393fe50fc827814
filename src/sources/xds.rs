//! Rules from a control plane: the state-of-the-world client of aggregated discovery, as Envoy Gateway speaks to it.
//! Knows discovery's messages, and neither the limiter nor what is done with the rules; never takes rules away because
//! the control plane is gone or sends bad ones.

mod backoff;
mod connect;
mod refusal;
mod render;
mod saved_set;
mod set;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, path::Path, pin::pin, time::Duration};

use crate::proto::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    google::{
        protobuf::{Struct, Value, value::Kind},
        rpc::Status as Detail,
    },
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use self::{
    backoff::Backoff,
    connect::{DiscoveryConnection, DiscoveryStream, connect},
    refusal::{DelayedNack, NackPace, RefusedSet, due},
    saved_set::SavedSet,
    set::{TYPE_URL, load},
};
use crate::{
    blocking::blocking,
    rules::{Defaults, LoadedRules, LoadedTexts, Problems, Rules},
    settings::XdsSettings,
};

/// With TLS 1.3 a server looks at a client's certificate when the client has connected already: one that refuses it says so
/// within this, and what stands longer is a connection.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// A control plane that has sent nothing for so long is spoken of.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Follows what a control plane says.
pub struct DiscoveryClient {
    settings: XdsSettings,
    defaults: Defaults,
    /// In force: what is refused leaves them as they are.
    rules: Rules,
    /// Of the last set that was accepted on this stream; empty before there is one. A control plane that restarted may
    /// count its versions from 1 again, so one that an earlier stream brought says nothing about what this one has.
    version: String,
    refused: Option<RefusedSet>,
    pace: NackPace,
    backoff: Backoff,
    /// Where the last set that was accepted is kept, if anywhere.
    saved_set: Option<SavedSet>,
}

impl DiscoveryClient {
    /// With a `state_dir` the last set that was accepted is kept there.
    pub fn new(settings: XdsSettings, defaults: Defaults, state_dir: Option<&Path>) -> DiscoveryClient {
        let (backoff, saved_set) = (Backoff::new(settings.backoff), state_dir.map(SavedSet::new));
        let (rules, version, pace) = (Rules::default(), String::new(), NackPace::default());
        DiscoveryClient { settings, defaults, rules, version, refused: None, pace, backoff, saved_set }
    }

    /// Connects, again whenever the connection is lost; never ends itself. `on` gets each set that was tried: rules to
    /// put in force (the same as before where the set was refused) and the problems that it has. `on_connection` hears
    /// whether there is a connection. A set is acknowledged when `on` is done with it.
    pub async fn run<F: Future<Output = ()>>(
        mut self,
        mut on: impl FnMut(LoadedRules) -> F,
        on_connection: impl Fn(bool),
    ) -> Infallible {
        let server = self.settings.server.clone();
        self.begin_with_saved_set(&mut on).await;
        loop {
            let (why, first_wait) = match connect(&self.settings).await {
                Ok(connection) => {
                    let why = self.follow_connection(connection, &mut on, &on_connection).await;
                    on_connection(false);
                    (why, self.settings.backoff.initial)
                }
                Err(why) => (why, self.settings.backoff.connect),
            };
            let wait = self.backoff.next(first_wait);
            warn!(server, error = why, ?wait, "no control plane: the current rules stay in force until it is back");
            time::sleep(wait).await;
        }
    }

    /// Goes on with what was kept, until the control plane says more.
    async fn begin_with_saved_set<F: Future<Output = ()>>(&mut self, on: &mut impl FnMut(LoadedRules) -> F) {
        let Some(saved) = self.saved_set.clone() else { return };
        let defaults = self.defaults;
        let read = blocking(move || saved.load().map(|set| set.map(|set| (load(&set, &defaults), set.version_info))));
        match read.await {
            Ok(None) => {}
            Ok(Some((load, version))) if load.problems.has_errors() => {
                set::log_problems(&load.problems);
                warn!(rules_version = version, "the saved rules of the control plane have errors and are not used");
            }
            Ok(Some((load, version))) => {
                info!(
                    rules_version = version,
                    "starting with the control plane's last good rules, kept in the state directory"
                );
                self.rules = load.rules.clone();
                on(load).await;
            }
            Err(error) => warn!(%error, "can't read the saved rules of the control plane"),
        }
    }

    /// Waits for the disk: an acknowledgement says that a restart has the set too.
    async fn keep_set(&self, set: DiscoveryResponse) {
        let Some(saved) = self.saved_set.clone() else { return };
        if let Err(error) = blocking(move || saved.save(&set)).await {
            warn!(%error, "can't save the control plane's rules to the state directory");
        }
    }

    /// Follows the one stream of a connection to its end; says why it ended.
    async fn follow_connection<F: Future<Output = ()>>(
        &mut self,
        connection: DiscoveryConnection,
        on: &mut impl FnMut(LoadedRules) -> F,
        on_connection: &impl Fn(bool),
    ) -> String {
        let began = Instant::now();
        self.version.clear();
        let ended = match self.begin(connection, began, on_connection).await {
            Ok(stream) => self.follow(stream, began + SILENT_AFTER, on).await,
            Err(status) => Some(status),
        };
        // A control plane has nothing to say as long as nothing changes: a stream that stood was one that works.
        if began.elapsed() >= self.settings.backoff.max {
            self.backoff.reset();
        }
        match ended {
            None => "it ended the stream".to_owned(),
            Some(status) if status.code() == Code::OutOfRange => {
                format!("{} (XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES allows more)", status.message())
            }
            Some(status) => connect::explain(&status),
        }
    }

    /// The stream, once the control plane has said that it heard: many do so only with a first set. Until then there is a
    /// connection if none was refused within [`REFUSED_WITHIN`].
    async fn begin(
        &self,
        connection: DiscoveryConnection,
        began: Instant,
        on_connection: &impl Fn(bool),
    ) -> Result<DiscoveryStream, Status> {
        let connected = || {
            info!(server = self.settings.server, "connected to the control plane");
            on_connection(true);
        };
        let mut stream = pin!(connection.stream(self.request()));
        tokio::select! {
            begun = &mut stream => return begun.inspect(|_| connected()),
            () = time::sleep_until(began + REFUSED_WITHIN) => connected(),
        }
        tokio::select! {
            begun = &mut stream => return begun,
            () = time::sleep_until(began + SILENT_AFTER) => self.log_silence(),
        }
        stream.await
    }

    /// A control plane says nothing to a node that it doesn't know, and goes on saying nothing.
    fn log_silence(&self) {
        if self.version.is_empty() {
            let (server, node) = (&self.settings.server, &self.settings.node_id);
            warn!(
                server, node, after = ?SILENT_AFTER,
                "the control plane has sent nothing: does it have rules for this node (CONFIG_GRPC_XDS_NODE_ID)?"
            );
        }
    }

    /// Answers what comes until the stream ends; gives the error, if it was one.
    async fn follow<F: Future<Output = ()>>(
        &mut self,
        mut stream: DiscoveryStream,
        silent_at: Instant,
        on: &mut impl FnMut(LoadedRules) -> F,
    ) -> Option<Status> {
        let mut held: Option<DelayedNack> = None;
        // Told already where the stream itself was late.
        let mut silent_at = Some(silent_at).filter(|at| *at > Instant::now());
        loop {
            let response = tokio::select! {
                response = stream.responses.message() => response,
                () = at(silent_at) => {
                    silent_at = None;
                    self.log_silence();
                    continue;
                }
                () = due(held.as_ref()) => {
                    if let Some(DelayedNack { request, .. }) = held.take() {
                        self.pace.sent(Instant::now());
                        send(&stream.requests, request).await;
                    }
                    continue;
                }
            };
            silent_at = None;
            // A later response makes the answer to the one before it worthless.
            held = None;
            match response {
                Ok(Some(response)) if response.type_url == TYPE_URL => {
                    self.backoff.reset();
                    match self.take(response, on).await {
                        Acknowledgement::Ack(request) => send(&stream.requests, request).await,
                        Acknowledgement::Nack(request) => {
                            held = Some(DelayedNack { request, until: self.pace.next(Instant::now()) })
                        }
                    }
                }
                Ok(Some(response)) => {
                    debug!(response.type_url, "the control plane sent a resource type that was not requested")
                }
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    async fn take<F: Future<Output = ()>>(
        &mut self,
        response: DiscoveryResponse,
        on: &mut impl FnMut(LoadedRules) -> F,
    ) -> Acknowledgement {
        let (version, nonce) = (response.version_info.clone(), response.nonce.clone());
        let is_repeated = self.refused.as_ref().is_some_and(|refused| refused.has_version(&version));
        if let Some(refused) = self.refused.as_ref().filter(|refused| refused.is_same_set(&response)) {
            return Acknowledgement::Nack(self.nack(&version, nonce, refused.text(), is_repeated));
        }
        let defaults = self.defaults;
        let (load, response) = blocking(move || (load(&response, &defaults), response)).await;
        set::log_problems(&load.problems);
        if load.problems.has_errors() {
            warn!(rules_version = version, "the control plane's rules have errors: the whole set is rejected (NACK)");
            let refused = RefusedSet::new(&response, load.problems.clone());
            let request = self.nack(&version, nonce, refused.text(), is_repeated);
            self.refused = Some(refused);
            on(self.keep_rules(load.problems)).await;
            return Acknowledgement::Nack(request);
        }
        if load.rules.domains().is_empty() && !self.rules.domains().is_empty() {
            warn!(rules_version = version, "the control plane removed every domain: nothing is limited any more");
        }
        self.refused = None;
        self.rules = load.rules.clone();
        self.version = version;
        on(load).await;
        self.keep_set(response).await;
        Acknowledgement::Ack(DiscoveryRequest { response_nonce: nonce, ..self.request() })
    }

    /// Everything stays as it is.
    fn keep_rules(&self, problems: Problems) -> LoadedRules {
        let saved = self.rules.domains().iter().map(|domain| domain.name().into()).collect();
        LoadedRules { rules: self.rules.clone(), problems, kept_domains: saved, texts: LoadedTexts::default() }
    }

    /// Names the version in force, but of a version that is refused again that one: go-control-plane sends at once what
    /// differs from the version in a request, so only this ends the repetition, and has it send the corrected set as soon
    /// as there is one. What makes it a refusal is the error.
    fn nack(&self, refused: &str, nonce: String, text: String, is_repeated: bool) -> DiscoveryRequest {
        let detail = Detail { code: Code::InvalidArgument as i32, message: text, details: Vec::new() };
        let request = DiscoveryRequest { response_nonce: nonce, error_detail: Some(detail), ..self.request() };
        if is_repeated { DiscoveryRequest { version_info: refused.to_owned(), ..request } } else { request }
    }

    /// Names no resource, which means all there are, and the version that this stream brought last. The first request of
    /// a stream thus names none, and the control plane sends what it has: go-control-plane sends nothing to a client
    /// that names its version, even if that version was another set before it restarted.
    fn request(&self) -> DiscoveryRequest {
        let text = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
        let metadata = self.settings.node_metadata.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let metadata = (!self.settings.node_metadata.is_empty()).then_some(Struct { fields: metadata });
        DiscoveryRequest {
            version_info: self.version.clone(),
            node: Some(Node { id: self.settings.node_id.clone(), metadata, ..Node::default() }),
            type_url: TYPE_URL.to_owned(),
            ..DiscoveryRequest::default()
        }
    }
}

/// What is sent back for a response.
enum Acknowledgement {
    Ack(DiscoveryRequest),
    /// As soon as the pace of refusals allows it, which is at once for the first ones.
    Nack(DiscoveryRequest),
}

/// Never, where there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Where the stream is gone nobody needs the answer, and its end is seen when it is read.
async fn send(requests: &mpsc::Sender<DiscoveryRequest>, request: DiscoveryRequest) {
    let _ = requests.send(request).await;
}
