//! The second Redis, for limits whose window is one second: the first one's settings with its own place and secrets.

use std::{path::PathBuf, time::Duration};

use super::{Flags, KINDS, Reader, RedisFlags, RedisKind, SOCKETS, parse, set};

/// Certificates, prefix and buckets are those of `main`, as in the reference.
pub(super) fn per_second(flags: &Flags, read: &mut Reader, main: &RedisFlags) -> Option<RedisFlags> {
    if !read.or("REDIS_PERSECOND", &flags.redis_persecond, false, parse::boolean) {
        return None;
    }
    let text = |text: &Option<String>| set(text).map(str::to_string);
    let url = text(&flags.redis_persecond_url).unwrap_or_else(|| {
        read.wrong.push("REDIS_PERSECOND_URL: is needed where REDIS_PERSECOND is true, e.g. redis:6379".into());
        String::new()
    });
    let ten_seconds = Duration::from_secs(10);
    Some(RedisFlags {
        kind: read.or("REDIS_PERSECOND_TYPE", &flags.redis_persecond_type, RedisKind::Single, parse::word(KINDS)),
        url,
        socket_type: read.or(
            "REDIS_PERSECOND_SOCKET_TYPE",
            &flags.redis_persecond_socket_type,
            None,
            parse::word(SOCKETS),
        ),
        auth: text(&flags.redis_persecond_auth),
        auth_file: set(&flags.redis_persecond_auth_file).map(PathBuf::from),
        sentinel_auth: text(&flags.redis_persecond_sentinel_auth),
        tls: read.or("REDIS_PERSECOND_TLS", &flags.redis_persecond_tls, false, parse::boolean),
        connect_timeout: read.or(
            "REDIS_PERSECOND_TIMEOUT",
            &flags.redis_persecond_timeout,
            ten_seconds,
            parse::duration,
        ),
        ..main.clone()
    })
}
