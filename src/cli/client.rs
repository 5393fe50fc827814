//! The way to a running service for subcommands that use its interface: `tollgate.v1` over gRPC, with a token that never
//! stands in arguments.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use http::{Uri, uri::Scheme};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{front::api::tollgate_client::TollgateClient, tls};

/// The token itself may stand here, but in no flag: other users of a machine see arguments.
const TOKEN: &str = "TOLLGATE_TOKEN";

#[derive(Args, Clone)]
pub(super) struct ServiceArgs {
    /// The service's gRPC listener; https:// speaks TLS
    #[arg(long, value_name = "[https://]HOST:PORT", env = "TOLLGATE_ADDR", default_value = "127.0.0.1:8081")]
    addr: String,
    /// File with the token; without it the variable TOLLGATE_TOKEN
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authority that signed the service's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CACERT")]
    cacert: Option<PathBuf>,
    /// How long each call may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout_ms: u64,
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Service {
    client: TollgateClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
}

impl ServiceArgs {
    pub(super) async fn connect(&self) -> anyhow::Result<Service> {
        let token = self.token()?;
        let uri = if self.addr.contains("://") { self.addr.clone() } else { format!("http://{}", self.addr) };
        let timeout = self.patience();
        let uri = uri.parse::<Uri>().with_context(|| format!("{} is no address", self.addr))?;
        if uri.scheme() != Some(&Scheme::HTTPS) && self.cacert.is_some() {
            bail!("--addr: https:// is needed beside --cacert: without it {} is spoken to in the clear", self.addr);
        }
        let client = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| tls::ClientTls {
            ca: self.cacert.clone(),
            protocol: Some(tls::HTTP2),
            ..tls::ClientTls::default()
        });
        let endpoint = tls::endpoint(uri).connect_timeout(timeout).timeout(timeout);
        let channel = tls::channel(endpoint, client).await.map_err(anyhow::Error::msg);
        let channel = channel.with_context(|| format!("no connection to {}", self.addr))?;
        Ok(Service { client: TollgateClient::new(channel), token })
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }

    fn token(&self) -> anyhow::Result<Option<MetadataValue<Ascii>>> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("--token-file: {}", path.display()))?,
            None => std::env::var(TOKEN).unwrap_or_default(),
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        match format!("Bearer {text}").parse::<MetadataValue<Ascii>>() {
            Ok(mut value) => {
                value.set_sensitive(true);
                Ok(Some(value))
            }
            // The error would show it.
            Err(_) => bail!("the token has characters that no token has"),
        }
    }
}

impl Service {
    pub(super) fn client(&self) -> TollgateClient<Channel> {
        self.client.clone()
    }

    /// A call with the token, if there is one.
    pub(super) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

/// A refusal in the service's words, and the way out where it is ours to tell.
pub(super) fn refused(status: &Status, has_token: bool) -> anyhow::Error {
    let hint = match status.code() {
        tonic::Code::Unauthenticated if !has_token => " (give a token: --token-file FILE, or TOLLGATE_TOKEN)",
        _ => "",
    };
    anyhow::anyhow!("{}{hint}", status.message())
}
