//! `tollgate tail`: decisions as they happen on all replicas of a running service, a line each, or as JSON.

mod events;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, io};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use tokio::{runtime, sync::mpsc};

use self::events::EventReader;
use super::{
    ask::{AskArgs, Call, Service, escaped},
    entries,
    exit::{self, Exit},
    show::{self, OutputArgs, Paint, Tone},
    status,
};
use crate::{
    clock,
    front::api::WatchStarted,
    limit::{UnixMicros, moment},
    visible,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate tail --denied                           who is refused, and by what\n  \
    tollgate tail --entry user=alice --for 10m       what happens to one client\n  \
    tollgate tail --shadow --limit 'api/user#new'    whom a limit would refuse that isn't enforced yet\n  \
    tollgate tail --domain api --json | jq .limit_id\n  \
    TOLLGATE_TOKEN=… tollgate tail --addr limits:8080 --degraded\n\n\
    Without --addr the admin listener of a service on this machine is asked; with it a token whose scopes have\n\
    `insight.read`. At most 500 decisions a second are shown, and how many were left out. Ctrl-C ends it.\n\
    Exit code: 0 its time is over, or it was stopped; 1 it failed; 2 a command line that can't be meant so.")]
pub(super) struct TailArgs {
    /// Only requests of this domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    /// Only requests that met the limit with this id, such as 'api/user#hourly'
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    limit: String,
    /// Only requests with a descriptor that has this entry
    #[arg(long, value_name = "K=V", default_value = "", hide_default_value = true, value_parser = entries::one_as_given)]
    entry: String,
    /// Only requests that were denied
    #[arg(long, group = "only")]
    denied: bool,
    /// Only requests that a limit would have refused that isn't enforced
    #[arg(long, group = "only")]
    shadow: bool,
    /// Only requests that a failure policy answered
    #[arg(long, group = "only")]
    degraded: bool,
    /// How long, up to 1h
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = show::span)]
    lasts: show::Span,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What one service says.
enum Said {
    Event(usize, Event),
    /// Its stream is over; with why, if that is an error.
    Over(usize, Option<anyhow::Error>),
}

enum Event {
    Started(WatchStarted),
    /// A line of JSON.
    Decision(String),
    LeftOut(u64),
    Ended(String),
}

pub(super) fn run(args: &TailArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let services = args.ask.services()?;
        let names: Vec<String> = services.iter().map(|service| service.name().to_owned()).collect();
        let (sender, mut said) = mpsc::channel(1_024);
        for (place, service) in services.into_iter().enumerate() {
            let (sender, call) = (sender.clone(), Call::get(args.path()));
            tokio::spawn(async move {
                let over = follow(place, &service, &call, &sender).await.err();
                let _ = sender.send(Said::Over(place, over)).await;
            });
        }
        drop(sender);
        let shown = Shown { names, is_json: args.output.json, paint: args.output.paint() };
        tokio::select! {
            shown = shown.all(&mut said) => shown,
            ended = tokio::signal::ctrl_c() => ended.map(|()| Exit::Done).map_err(Into::into),
        }
    })
}

impl TailArgs {
    fn path(&self) -> String {
        let only = match (self.denied, self.shadow, self.degraded) {
            (true, ..) => "denied",
            (_, true, _) => "shadow",
            (.., true) => "degraded",
            _ => "",
        };
        let parameters = [
            ("domain", &*self.domain),
            ("limit", &self.limit),
            ("entry", &self.entry),
            ("only", only),
            ("for", &self.lasts.written),
        ];
        let query = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> = query.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        format!("/v1/decisions?{}", query.join("&"))
    }
}

/// Reads the events of one service until its stream is over.
async fn follow(place: usize, service: &Service, call: &Call, sender: &mpsc::Sender<Said>) -> anyhow::Result<()> {
    let mut events = EventReader::new(service.ask_for_stream(call).await?);
    let mut is_ended = false;
    while let Some((name, data)) = events.next().await.context("the stream broke off")? {
        let event = match &*name {
            "started" => Event::Started(serde_json::from_str(&data)?),
            "decision" => Event::Decision(data),
            "left_out" => {
                let told: Value = serde_json::from_str(&data)?;
                Event::LeftOut(told["lines"].as_u64().unwrap_or_default())
            }
            "ended" => {
                is_ended = true;
                let told: Value = serde_json::from_str(&data)?;
                Event::Ended(told["why"].as_str().unwrap_or_default().to_owned())
            }
            // Of a newer release.
            _ => continue,
        };
        if sender.send(Said::Event(place, event)).await.is_err() {
            return Ok(());
        }
    }
    anyhow::ensure!(is_ended, "the stream broke off: the service may have stopped");
    Ok(())
}

/// How events are shown.
struct Shown {
    names: Vec<String>,
    is_json: bool,
    paint: Paint,
}

impl Shown {
    /// Shows what comes until all streams are over; the worst exit code is that of all.
    async fn all(&self, said: &mut mpsc::Receiver<Said>) -> anyhow::Result<Exit> {
        let mut worst = Exit::Done;
        while let Some(said) = said.recv().await {
            let text = match said {
                Said::Event(place, event) => self.event(place, &event),
                Said::Over(_, None) => continue,
                Said::Over(_, Some(error)) if self.names.len() == 1 => return Err(error),
                Said::Over(place, Some(error)) => {
                    worst = worst.max(exit::of_error(&error));
                    eprintln!("tollgate: {}: {}", self.names[place], visible::lines(&format!("{error:#}")));
                    continue;
                }
            };
            match show::write(&text) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(worst),
                written => written?,
            }
        }
        Ok(worst)
    }

    fn event(&self, place: usize, event: &Event) -> String {
        // Programs read decisions; what is said besides is for people.
        if self.is_json {
            match event {
                Event::Decision(line) => return format!("{}\n", visible::json(line)),
                other => {
                    eprint!("{}", in_words(other, self.paint));
                    return String::new();
                }
            }
        }
        let region = match self.names.len() {
            1 => String::new(),
            _ => format!("{}  ", self.names[place]),
        };
        in_words(event, self.paint).lines().map(|line| format!("{region}{line}\n")).collect()
    }
}

fn in_words(event: &Event, paint: Paint) -> String {
    match event {
        Event::Started(WatchStarted { fleet, replicas, ends, partial }) => {
            let mut out = format!("{}\n", status::heading(fleet, *replicas as usize));
            if !partial.is_empty() {
                let _ = writeln!(out, "{}", paint.on(Tone::Attention, &visible::text(partial)));
            }
            let _ = writeln!(out, "decisions until {}", visible::text(&show::moment(ends, clock::now())));
            out
        }
        Event::Decision(line) => match serde_json::from_str(line) {
            Ok(decision) => decision_line(&decision, paint),
            Err(_) => format!("{}\n", visible::text(line)),
        },
        Event::LeftOut(lines) => {
            paint.on(Tone::Attention, &format!("… {lines} decisions were left out: a filter shows fewer")) + "\n"
        }
        Event::Ended(why) => format!("ended: {}\n", visible::text(why)),
    }
}

/// Time, replica, verdict, descriptors, limit, what remains, and why.
fn decision_line(decision: &Value, paint: Paint) -> String {
    let text = |field: &str| visible::text(decision[field].as_str().unwrap_or_default()).into_owned();
    // Microseconds say nothing to people.
    let at = UnixMicros((decision["t"].as_f64().unwrap_or_default() * 1e3) as u64 * 1_000);
    let time = moment::write(at);
    let (is_shadow, code) = (would_be(decision), text("code"));
    let verdict = match (&*code, is_shadow) {
        ("OVER_LIMIT", _) => paint.on(Tone::Bad, "refused      "),
        ("ERROR", _) => paint.on(Tone::Bad, "error        "),
        (_, true) => paint.on(Tone::Attention, "would refuse "),
        _ => paint.on(Tone::Good, "admitted     "),
    };
    let mut out = format!("{time}  {}  {verdict} {}  {}", text("replica"), text("domain"), descriptors(decision));
    if let Some(limit) = told_limit(decision, is_shadow) {
        let id = visible::text(limit["limit_id"].as_str().unwrap_or_default());
        let _ = write!(out, "  {id}");
        if let Some(remaining) = limit["remaining"].as_u64() {
            let _ = write!(out, "  {remaining} of {} left", limit["requests"]);
        }
        if let (Some(reset), Some("OVER_LIMIT")) = (limit["reset"].as_f64(), limit["code"].as_str()) {
            let _ = write!(out, ", again in {}", moment::length_in_words((reset * 1e6) as u64));
        }
    } else if decision["limit_id"].is_null() {
        out += "  no limit";
    }
    for (field, name) in [("override", "override"), ("degraded", "the store failed: policy")] {
        if decision[field].is_string() {
            let _ = write!(out, "  {name} {}", text(field));
        }
    }
    out + "\n"
}

fn limits(decision: &Value) -> impl Iterator<Item = &Value> {
    let descriptors = decision["descriptors"].as_array().into_iter().flatten();
    descriptors.flat_map(|descriptor| descriptor["limits"].as_array().into_iter().flatten())
}

/// Whether a limit that isn't enforced would have refused it.
fn would_be(decision: &Value) -> bool {
    limits(decision).any(|limit| limit["shadow"] == true)
}

/// The limit that the answer reports; of a refusal that doesn't count, the one that would have refused.
fn told_limit(decision: &Value, is_shadow: bool) -> Option<&Value> {
    let is_told = |limit: &&Value| match decision["code"].as_str() {
        Some("OK") if is_shadow => limit["shadow"] == true,
        _ => limit["limit_id"] == decision["limit_id"],
    };
    limits(decision).find(is_told)
}

/// `(user=alice)(user=alice,endpoint=/x)`.
fn descriptors(decision: &Value) -> String {
    let descriptor = |descriptor: &Value| {
        let entries = descriptor["entries"].as_array().into_iter().flatten();
        let entry = |entry: &Value| {
            let part = |field: &str| visible::text(entry[field].as_str().unwrap_or_default()).into_owned();
            format!("{}={}", part("key"), part("value"))
        };
        format!("({})", entries.map(entry).collect::<Vec<_>>().join(","))
    };
    let mut out: String = decision["descriptors"].as_array().into_iter().flatten().map(descriptor).collect();
    if let Some(left_out) = decision["descriptors_left_out"].as_u64() {
        let _ = write!(out, "(and {left_out} more)");
    }
    out
}
