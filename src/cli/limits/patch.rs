//! What to change in the rule files so that a switch is there to stay: YAML, and where it goes.

use crate::{
    cli::ask::{Call, Service},
    front::api::{LimitSwitch, SetSwitchRequest, SetSwitchResponse, SwitchedLimit},
    visible,
};

/// Of each switch. Its limits are those that a dry run of the same switch names.
pub(super) async fn of(service: &Service, switches: &[LimitSwitch]) -> anyhow::Result<String> {
    let mut text = String::new();
    for switch in switches {
        for (place, id, yaml) in changes(service, switch).await? {
            text += &visible::text(&format!("# {place}: {id}"));
            text += &format!("\n{yaml}\n");
        }
    }
    Ok(text)
}

async fn changes(service: &Service, switch: &LimitSwitch) -> anyhow::Result<Vec<(String, String, String)>> {
    let request = SetSwitchRequest {
        limit_id: switch.limit_id.clone(),
        all: switch.all,
        mode: switch.mode.clone(),
        factor: switch.factor,
        share: switch.share.clone(),
        ends: switch.ends.clone(),
        reason: switch.reason.clone(),
        dry_run: true,
        ..SetSwitchRequest::default()
    };
    let path = format!("/v1/domains/{}/switches", crate::cli::ask::escaped(&switch.domain));
    let answer: SetSwitchResponse = service.ask(Call::put(path, &request)).await?;
    let changed = answer.limits.into_iter().filter(|limit| !limit.protected && limit.kept_by.is_empty());
    Ok(changed
        .map(|limit| {
            let yaml = yaml(switch, &limit);
            (limit.place, limit.limit_id, yaml)
        })
        .collect())
}

/// What the limit's rule has to say; of a limit with a name, which may stand in a list, the limit itself.
fn yaml(switch: &LimitSwitch, limit: &SwitchedLimit) -> String {
    let name = limit.limit_id.split_once('#').map(|(_, name)| name);
    let Some(numbers) = limit.after.as_ref() else {
        return match name {
            Some(name) => {
                format!("    # take `{name}` out of its rate_limit, which is `unlimited` where nothing is left")
            }
            None => "    rate_limit: unlimited".to_owned(),
        };
    };
    let rate = format!("requests: {}, window: {}s", numbers.requests, numbers.window_seconds);
    let rate = match &*switch.mode {
        "shadow" => format!("{rate}, enforce: false"),
        "enforce" => format!("{rate}, enforce: {}", switch.share),
        _ => rate,
    };
    let shadow_mode = if switch.mode == "enforce" { "; take out `shadow_mode`, if it is there" } else { "" };
    match name {
        Some(name) => format!("    {{name: {name}, {rate}}}    # its other keys stay{shadow_mode}"),
        None => format!("    rate_limit: {{{rate}}}    # its other keys stay{shadow_mode}"),
    }
}
