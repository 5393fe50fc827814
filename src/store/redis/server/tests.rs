//! Servers as they describe themselves in INFO.

use super::*;

fn info(server: &str, aof: u8) -> String {
    format!(
        "# Server\r\n{server}\r\nos:Linux\r\n# Persistence\r\nloading:0\r\naof_enabled:{aof}\r\naof_rewrite_in_progress:0\r\n"
    )
}

#[test]
fn only_two_releases_of_valkey_with_an_append_only_file_replay_wrongly() {
    let valkey = |version: &str| format!("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{version}");
    for version in ["9.0.0", "9.0.1"] {
        let why = wrong_replay(&info(&valkey(version), 1)).expect("it does");
        assert!(why.contains(version) && why.contains("9.0.2"), "{why}");
        assert_eq!(wrong_replay(&info(&valkey(version), 0)), None, "{version} without the file");
    }
    for version in ["8.0.1", "8.1.0", "9.0.2", "9.0.10", "9.1.0", "19.0.0"] {
        assert_eq!(wrong_replay(&info(&valkey(version), 1)), None, "{version}");
    }
    for server in ["redis_version:9.0.0", "redis_version:7.0.15", ""] {
        assert_eq!(wrong_replay(&info(server, 1)), None, "{server}");
    }
}
