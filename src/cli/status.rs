//! `tollgate status`: the replicas of the fleet, what they serve and how they fare, and what wants attention.

use std::time::Duration;

use clap::Args;
use tokio::runtime;

use super::{
    ask::{self, Answer, AskArgs, Call, Service, escaped},
    exit::Exit,
    limits,
    show::{self, OutputArgs, Paint, Tone},
};
use crate::{
    clock,
    front::api::{GetFleetResponse, RefusingLimit, Replica},
    limit::{UnixMicros, moment},
    visible,
};

/// Time between two looks: records are written every five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate status\n  \
    tollgate status --watch\n  \
    TOLLGATE_TOKEN=… tollgate status --addr limits-eu:8080 --addr limits-us:8080 --json\n\n\
    Without --addr the admin listener of a service on this machine is asked; with it a token whose scopes have\n\
    `insight.read`. Exit code: 0 all is well, 1 no answer, 2 a command line that can't be meant so, 3 something wants\n\
    attention.")]
pub(super) struct StatusArgs {
    /// Look again every two seconds
    #[arg(long)]
    watch: bool,
    /// Only what is switched and refused in this domain, for a token of one domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let path = match &*args.domain {
        "" => "/v1/fleet".to_owned(),
        domain => format!("/v1/fleet?domain={}", escaped(domain)),
    };
    let paint = args.output.paint();
    runtime.block_on(async {
        let ask = async |service: &Service| {
            let answer: GetFleetResponse = service.ask(Call::get(path.clone())).await?;
            let exit = if answer.attention.is_empty() { Exit::Done } else { Exit::Attention };
            Ok(Answer { text: in_words(&answer, paint), json: serde_json::to_value(&answer)?, exit })
        };
        let services = args.ask.services()?;
        match args.watch {
            true => ask::each_again(&services, &args.output, LOOK_EVERY, ask).await,
            false => ask::each(&services, &args.output, ask).await,
        }
    })
}

/// `fleet default, 3 replicas`.
pub(super) fn heading(fleet: &str, replicas: usize) -> String {
    let s = if replicas == 1 { "" } else { "s" };
    format!("fleet {}, {replicas} replica{s}", visible::text(fleet))
}

fn in_words(answer: &GetFleetResponse, paint: Paint) -> String {
    let mut text = paint.on(Tone::Strong, &heading(&answer.fleet, answer.replicas.len())) + "\n";
    let columns = ["replica", "version", "up", "rules", "since", "rps", "refused", "degraded", "store", "overrides"];
    let rows: Vec<[String; 10]> = answer.replicas.iter().map(row).collect();
    text += &show::table(columns, &rows, 0);
    for RefusingLimit { limit, denied, counters } in &answer.refusing {
        let s = if *counters == 1 { "" } else { "s" };
        let limit = visible::text(limit);
        text += &format!("refuses most: {limit}, at least {denied} in the last 10 min ({counters} counter{s})\n");
    }
    // Where this replica alone is seen, it is said below, as what wants attention.
    if answer.partial.is_empty() && !answer.refusing_partial.is_empty() {
        text += &format!("refuses most: {}\n", visible::text(&answer.refusing_partial));
    }
    for switch in &answer.switches {
        text += &format!("switched: {}\n", visible::text(&limits::in_words(switch)));
    }
    for attention in &answer.attention {
        text += &paint.on(Tone::Attention, &format!("attention: {}", visible::text(attention)));
        text += "\n";
    }
    text
}

fn row(replica: &Replica) -> [String; 10] {
    let age = |at: &str| match moment::parse(at) {
        Ok(at) => moment::length_in_words(clock::now().0.saturating_sub(at.0)),
        Err(_) => String::new(),
    };
    let share = |part: f64| match replica.requests > 0.0 {
        true => format!("{:.1} %", 100.0 * part / replica.requests),
        false => "-".to_owned(),
    };
    let store = match (replica.store_answers, replica.breakers_open) {
        (false, _) => format!("{}: no answer", replica.store),
        (true, 0) => replica.store.clone(),
        (true, open) => format!("{}: {open} open", replica.store),
    };
    let rules = if replica.problems > 0 { format!("{} !", replica.rules_hash) } else { replica.rules_hash.clone() };
    let generation = match replica.overrides_generation {
        0 => "none".to_owned(),
        version => moment::write(UnixMicros(version / 1_000_000 * 1_000_000)),
    };
    let cells = [
        replica.name.clone(),
        replica.version.clone(),
        age(&replica.started),
        rules,
        age(&replica.rules_loaded),
        format!("{:.1}", replica.requests),
        share(replica.refused),
        share(replica.degraded),
        store,
        generation,
    ];
    cells.map(|cell| visible::text(&cell).into_owned())
}
