//! How a running service is asked, by every subcommand that does: its API with a token, or without one the admin listener
//! of a service on this machine, which only looks. A token never stands in arguments.

mod service;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use http::{HeaderValue, Uri, uri::Scheme};
use serde_json::{Map, Value};

pub(super) use self::service::{AskError, Call, Service, escaped};
use self::service::{AskedListener, ServiceAddress};
use super::{
    exit::{self, BadUsage, Exit},
    show::{self, OutputArgs, Tone},
};
use crate::visible;

/// The token itself may stand here, but in no flag: other users of a machine see arguments.
const TOKEN: &str = "TOLLGATE_TOKEN";

/// Where a service on this machine has its API, for changes that name no address.
const API_HERE: &str = "127.0.0.1:8080";

/// How long a call may take that doesn't say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the API is, and who asks.
#[derive(Args, Clone)]
pub(super) struct ApiArgs {
    /// The service's API: its HTTP listener (or its gRPC listener); https:// speaks TLS; of several each is asked
    #[arg(
        long = "addr",
        value_name = "[https://]HOST:PORT",
        env = "TOLLGATE_ADDR",
        value_delimiter = ',',
        help_heading = "Service"
    )]
    addrs: Vec<String>,
    /// File with the token; without it the variable TOLLGATE_TOKEN
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TOKEN_FILE", help_heading = "Service")]
    token_file: Option<PathBuf>,
    /// Certificate authority that signed the service's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CACERT", help_heading = "Service")]
    cacert: Option<PathBuf>,
    /// How long each call may take, in milliseconds [default: 10000]
    #[arg(long, value_name = "MS", help_heading = "Service")]
    timeout_ms: Option<u64>,
    /// As every --addr does
    #[arg(long, hide = true)]
    api: bool,
}

/// Flags of every subcommand that looks at a service, or changes something there.
#[derive(Args, Clone)]
pub(super) struct AskArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The admin listener, which is asked where no --addr is given: it needs no token, and only looks
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6070", help_heading = "Service")]
    admin: String,
}

impl ApiArgs {
    /// The services of `--addr`, or else the one that has its API at `default`.
    pub(super) fn services(&self, default: &str, patience: Duration) -> anyhow::Result<Vec<Service>> {
        let named: Vec<&str> = self.addrs.iter().map(|addr| addr.trim()).filter(|addr| !addr.is_empty()).collect();
        let addrs = if named.is_empty() { vec![default] } else { named };
        let token = self.token()?;
        addrs.into_iter().map(|addr| self.service(addr, token.clone(), patience)).collect()
    }

    fn service(&self, addr: &str, token: Option<HeaderValue>, patience: Duration) -> anyhow::Result<Service> {
        let uri = address("--addr", addr)?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        if !is_tls && self.cacert.is_some() {
            let clear = format!("without it {addr} is spoken to in the clear");
            return Err(BadUsage(format!("--addr: https:// is needed beside --cacert: {clear}")).into());
        }
        let place =
            ServiceAddress { name: addr.to_owned(), uri, cacert: self.cacert.clone(), listener: AskedListener::Api };
        Ok(Service::new(place, token, patience))
    }

    pub(super) fn patience_or(&self, default: Duration) -> Duration {
        self.timeout_ms.map_or(default, |ms| Duration::from_millis(ms.max(1)))
    }

    /// Whether an API is meant, and which doesn't go without saying.
    fn is_named(&self) -> bool {
        self.api || self.addrs.iter().any(|addr| !addr.trim().is_empty())
    }

    fn token(&self) -> anyhow::Result<Option<HeaderValue>> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("--token-file: {}", path.display()))?,
            None => std::env::var(TOKEN).unwrap_or_default(),
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        // The error of the value would show it.
        let mut value = HeaderValue::from_str(&format!("Bearer {text}"))
            .map_err(|_| anyhow::anyhow!("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl AskArgs {
    /// The services that are looked at: those of `--addr`, or else the one of the admin listener.
    pub(super) fn services(&self) -> anyhow::Result<Vec<Service>> {
        self.services_within(PATIENCE)
    }

    /// The same for a call that may take so long, if nothing else is said.
    pub(super) fn services_within(&self, patience: Duration) -> anyhow::Result<Vec<Service>> {
        let patience = self.api.patience_or(patience);
        if self.api.is_named() {
            self.api.services(API_HERE, patience)
        } else {
            Ok(vec![admin(&self.admin, patience)?])
        }
    }

    /// The service at an address, whatever the flags name: its admin listener where that is meant, which needs no token.
    pub(super) fn service_at(&self, addr: &str, is_admin: bool, patience: Duration) -> anyhow::Result<Service> {
        let patience = self.api.patience_or(patience);
        if is_admin { admin(addr, patience) } else { self.api.service(addr, self.api.token()?, patience) }
    }

    /// Whether the command line names a service, which the environment may do for all commands.
    pub(super) fn is_in_arguments(&self) -> bool {
        self.api.is_named() && std::env::var_os("TOLLGATE_ADDR").is_none_or(|addr| addr.is_empty())
    }

    /// The services that are changed: only an API does that.
    pub(super) fn to_change(&self) -> anyhow::Result<Vec<Service>> {
        self.api.services(API_HERE, self.patience())
    }

    pub(super) fn patience(&self) -> Duration {
        self.api.patience_or(PATIENCE)
    }
}

fn admin(addr: &str, patience: Duration) -> anyhow::Result<Service> {
    let uri = address("--admin", addr)?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(BadUsage("--admin: the admin listener speaks no TLS".to_owned()).into());
    }
    let place = ServiceAddress { name: addr.to_owned(), uri, cacert: None, listener: AskedListener::Admin };
    Ok(Service::new(place, None, patience))
}

fn address(flag: &str, text: &str) -> Result<Uri, BadUsage> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = |why: &str| BadUsage(format!("{flag}: {text} is no address: {why}"));
    let uri: Uri = whole.parse().map_err(|_| wrong("write it as limits.example:8080"))?;
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()) {
        return Err(wrong("it may begin with https://"));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(wrong("nothing may follow the port"));
    }
    let has_port = uri.port_u16().is_some() || uri.scheme() == Some(&Scheme::HTTPS);
    if has_port { Ok(uri) } else { Err(wrong("it names no port, such as :8080")) }
}

/// What one service answered, to people and to programs.
pub(super) struct Answer {
    /// Whole lines.
    pub(super) text: String,
    pub(super) json: Value,
    pub(super) exit: Exit,
}

/// Asks each service, one after the other, and prints its answer: of several each under its address, as JSON in one object
/// by address. What a single one can't do is an error; of several it is said of the one, and the worst exit code is that of
/// all.
pub(super) async fn each(
    services: &[Service],
    output: &OutputArgs,
    ask: impl AsyncFn(&Service) -> anyhow::Result<Answer>,
) -> anyhow::Result<Exit> {
    let (text, exit) = answers(services, output, &ask).await?;
    show::print(&text)?;
    Ok(exit)
}

/// As [`each`], again and again: see [`show::watch`].
pub(super) async fn each_again(
    services: &[Service],
    output: &OutputArgs,
    every: Duration,
    ask: impl AsyncFn(&Service) -> anyhow::Result<Answer>,
) -> anyhow::Result<Exit> {
    show::watch(every, async || Ok(answers(services, output, &ask).await?.0)).await
}

async fn answers(
    services: &[Service],
    output: &OutputArgs,
    ask: &impl AsyncFn(&Service) -> anyhow::Result<Answer>,
) -> anyhow::Result<(String, Exit)> {
    if let [only] = services {
        let answer = ask(only).await?;
        return Ok((if output.json { show::json(&answer.json)? } else { answer.text }, answer.exit));
    }
    let (mut worst, mut text, mut by_address) = (Exit::Done, String::new(), Map::new());
    for service in services {
        let answer = match ask(service).await {
            Ok(answer) => answer,
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("tollgate: {}: {}", service.name(), visible::lines(&why));
                let json = serde_json::json!({ "error": why });
                Answer { text: String::new(), json, exit: exit::of_error(&error) }
            }
        };
        worst = worst.max(answer.exit);
        if !answer.text.is_empty() {
            let heading = output.paint().on(Tone::Strong, service.name());
            text += &format!("{heading}:\n{}", answer.text);
        }
        by_address.insert(service.name().to_owned(), answer.json);
    }
    Ok((if output.json { show::json(&by_address)? } else { text }, worst))
}
