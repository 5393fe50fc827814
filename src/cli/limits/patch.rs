//! What to change in the rule files so that a switch is there to stay: YAML, and where it goes.

use crate::{
    cli::ask::{Call, Service},
    front::api::{LimitSwitch, SetSwitchRequest, SetSwitchResponse},
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
    let of_limit = |limit: crate::front::api::SwitchedLimit| {
        let yaml = match (&*switch.mode, limit.after) {
            ("shadow", _) => "    enforce: false    # beside its rate".to_owned(),
            ("enforce", _) => {
                format!("    enforce: {}    # beside its rate; take out `shadow_mode`, if it is there", switch.share)
            }
            ("scale", Some(after)) => {
                let seconds = after.window_seconds;
                format!("    rate_limit: {{requests: {}, window: {seconds}s}}    # its other keys stay", after.requests)
            }
            _ => "    # take out its rate_limit: the rule then admits everything".to_owned(),
        };
        (limit.place, limit.limit_id, yaml)
    };
    Ok(answer.limits.into_iter().filter(|limit| !limit.protected).map(of_limit).collect())
}
