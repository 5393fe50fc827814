//! Rules from a control plane, by the real binary: what it asks, what it takes and refuses, and what it does while there
//! is nobody to ask.

pub(crate) mod control_plane;
mod gateway;
mod rules;
pub(crate) mod snapshot_cache;
mod state;
mod transport;

use crate::harness::Tollgate;
use control_plane::ControlPlane;
pub(crate) use transport::server_tls;

/// What makes a Tollgate follow `plane` without waiting long for anything, and what a test adds to it.
async fn follow(plane: &ControlPlane, env: &[(&str, &str)]) -> Tollgate {
    let address = plane.address.to_string();
    follow_at(&address, env).await
}

pub(crate) async fn follow_at(address: &str, env: &[(&str, &str)]) -> Tollgate {
    let mut all = vec![
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", address),
        ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "20ms"),
        ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "30ms"),
        ("XDS_CLIENT_BACKOFF_JITTER", "false"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("TOLLGATE_RULES", ""),
    ];
    all.extend(env);
    Tollgate::start_with(std::path::Path::new(""), &all).await
}

/// The bare process, for what happens before there is a Tollgate to ask.
fn command(env: &[(&str, &str)]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().envs(env.iter().copied());
    command
}
