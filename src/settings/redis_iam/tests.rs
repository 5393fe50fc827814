//! Tokens of AWS IAM among the settings.

use std::time::Duration;

use super::{Flags, RedisIamFlags, SettingsReader};
use crate::settings::{Invalid, Settings};
use crate::store::redis::Auth;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Whole settings of one Redis with tokens, changed by `change`.
fn flags(change: impl FnOnce(&mut Flags)) -> Flags {
    let mut flags = Flags {
        redis_url: text("limits.cache.test:6379"),
        redis_tls: text("true"),
        redis_iam: RedisIamFlags {
            redis_aws_iam_auth: text("true"),
            redis_aws_iam_cache_name: text("limits"),
            redis_aws_iam_user_id: text("tollgate"),
            ..RedisIamFlags::default()
        },
        ..Flags::default()
    };
    change(&mut flags);
    flags
}

#[test]
fn connections_with_tokens_are_replaced_before_aws_ends_them_and_others_where_a_setting_says_so() {
    let age = |change: fn(&mut Flags)| {
        let settings = Settings::resolve(&flags(change)).expect("they are whole");
        let redis = settings.store.redis.expect("it has an address");
        (matches!(redis.auth, Auth::AwsIam(_)), redis.max_connection_age)
    };
    assert_eq!(age(|_| ()), (true, Some(Duration::from_secs(11 * 3_600))));
    assert_eq!(age(|flags| flags.redis_iam.redis_max_connection_age = text("0")), (true, None));
    assert_eq!(age(|flags| flags.redis_iam = RedisIamFlags::default()), (false, None));
    let half_an_hour = |flags: &mut Flags| {
        flags.redis_iam = RedisIamFlags { redis_max_connection_age: text("30m"), ..RedisIamFlags::default() };
    };
    assert_eq!(age(half_an_hour), (false, Some(Duration::from_secs(1_800))));
}

#[test]
fn what_is_missing_or_too_much_beside_tokens_is_named() {
    type Change = fn(&mut Flags);
    let cases: [(Change, &str); 8] = [
        (|flags| flags.redis_tls = None, "REDIS_TLS: true is needed where REDIS_AWS_IAM_AUTH is true"),
        (
            |flags| flags.redis_iam.redis_aws_iam_cache_name = None,
            "REDIS_AWS_IAM_CACHE_NAME (--redis-aws-iam-cache-name): is needed",
        ),
        (
            |flags| flags.redis_iam.redis_aws_iam_user_id = None,
            "REDIS_AWS_IAM_USER_ID (--redis-aws-iam-user-id): is needed",
        ),
        (
            |flags| flags.redis_iam.redis_aws_iam_cache_name = text("limits.abc.cache.amazonaws.com"),
            "the endpoint belongs into REDIS_URL",
        ),
        (|flags| flags.redis_auth = text("hunter2"), "REDIS_AUTH (--redis-auth): is one password"),
        (|flags| flags.redis_auth_file = text("/run/auth"), "REDIS_AUTH_FILE (--redis-auth-file): is one password"),
        (
            |flags| flags.redis_iam.redis_aws_iam_auth = None,
            "REDIS_AWS_IAM_AUTH (--redis-aws-iam-auth): true is needed beside",
        ),
        (
            |flags| {
                flags.redis_persecond = text("true");
                flags.redis_persecond_url = text("seconds.cache.test:6379");
                flags.redis_persecond_tls = text("true");
                flags.redis_iam.redis_persecond_aws_iam_auth = text("true");
                flags.redis_iam.redis_persecond_aws_iam_user_id = text("tollgate");
            },
            "REDIS_PERSECOND_AWS_IAM_CACHE_NAME",
        ),
    ];
    for (change, expected) in cases {
        let Invalid(wrong) = Settings::resolve(&flags(change)).expect_err(expected);
        assert!(wrong.len() == 1 && wrong[0].contains(expected), "{expected}: {wrong:#?}");
        assert!(!wrong[0].contains("hunter2"), "{wrong:#?}");
    }
}

#[test]
fn a_build_without_tokens_says_how_to_get_one_that_has_them() {
    let mut read = SettingsReader::default();
    assert!(read.can_make_tokens(true, "REDIS_AWS_IAM_AUTH") && read.wrong.is_empty());
    assert!(!read.can_make_tokens(false, "REDIS_AWS_IAM_AUTH"));
    assert!(read.wrong.len() == 1 && read.wrong[0].contains("build it with --features aws-iam"), "{:?}", read.wrong);
}
