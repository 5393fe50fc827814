//! The words are those of Redis 7 and, where a script's error is wrapped, of Redis 6.

use super::*;

fn error(words: &str) -> RedisError {
    let reply = redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).expect("it is a reply");
    reply.extract_error().expect_err("it is an error")
}

#[test]
fn each_error_is_known_by_its_words_and_for_whom_it_speaks() {
    use Extent::{Moment, Node, Request};
    let cases = [
        ("READONLY You can't write against a read only replica.", "READONLY", Node),
        ("ERR Error running script (call to f_0): @user_script:9: -READONLY You can't write", "READONLY", Node),
        ("LOADING Redis is loading the dataset in memory", "LOADING", Node),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "MASTERDOWN", Node),
        ("CLUSTERDOWN Hash slot not served", "CLUSTERDOWN", Node),
        ("NOAUTH Authentication required.", "NOAUTH", Node),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS", Node),
        ("SENTINELAUTH Sentinel a:26379: NOAUTH Authentication required.", "SENTINELAUTH", Node),
        ("ERR max number of clients reached", "MAXCLIENTS", Node),
        ("ERR max number of clients + cluster connections reached", "MAXCLIENTS", Node),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "BUSY", Moment),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", Moment),
        ("ERR Error running script (call to f_0): @user_script:9: -OOM command not allowed", "OOM", Moment),
        ("MISCONF Redis is configured to save RDB snapshots, but is unable to persist to disk.", "MISCONF", Moment),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", Moment),
        ("MOVED 3999 127.0.0.1:6381", "MOVED", Request),
        ("ASK 3999 127.0.0.1:6381", "ASK", Request),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", Request),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "NOPERM", Request),
        ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT", Request),
        ("ERR unknown command 'EVALSHA'", "other", Request),
        ("NEWWORD of a Redis to come", "other", Request),
    ];
    for (words, code, extent) in cases {
        let class = class_of(&error(words));
        assert_eq!((class.code, class.extent), (code, extent), "{words}");
    }
    for class in &CLASSES {
        assert!(cases.iter().any(|(_, code, _)| *code == class.code), "{} has no case", class.code);
    }
}

#[test]
fn a_fault_is_news_once_for_each_node_until_it_has_been_quiet() {
    let faults = Faults::default();
    let begun = Instant::now();
    let news = |redis: &str, words: &str, after: Duration| {
        faults.is_news(redis.to_owned(), class_of(&error(words)), begun + after)
    };
    assert!(news("a:6379", "OOM", Duration::ZERO));
    assert!(news("b:6379", "OOM", Duration::ZERO), "another node");
    assert!(news("a:6379", "BUSY", Duration::ZERO), "another fault");
    for second in (0..300).step_by(30) {
        assert!(!news("a:6379", "OOM", Duration::from_secs(second)), "it goes on for {second} s");
    }
    assert!(news("a:6379", "OOM", Duration::from_secs(270) + QUIET), "it was over");
}
