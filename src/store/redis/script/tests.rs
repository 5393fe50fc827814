//! The worked examples in the heads of the Lua files, held true: each test builds the call of its example with the encoder
//! that the service uses, compares every byte with the text, runs it in a real `redis-server`, and compares the reply and
//! what lies in Redis afterwards. The text in the Lua file is the only copy of the bytes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
};

use redis::Cmd;

use super::*;
use crate::{
    limit::{Algorithm, Cost, Entry, Limit, Micros, SECOND},
    store::{
        CounterCheck, Gate, Key, Role,
        redis::{AuditStreamEntry as AuditEntry, batch::Batch, request::Request, reset},
    },
};

const DECIDE: &str = include_str!("../decide.lua");
const CAREFUL: &str = include_str!("../careful.lua");
const RESET: &str = include_str!("../reset.lua");

const CHANNEL: &str = "tg1:refunds";

/// The time of the examples in µs: 100 s after the epoch, so that it can be followed by hand.
const NOW: u64 = 100_000_000;
const LATER: u64 = NOW + SECOND.0;

/// The bytes of an example. A line of it is `label  <words> ; <name>=<value> …`, with one value for each word.
struct Example {
    /// The label of each field, and its bytes.
    fields: Vec<(String, Vec<u8>)>,
}

impl Example {
    /// Reads the lines below `-- Example` that are indented by three blanks. A line without a label goes on with the field
    /// above it. Text in quotes stands for its bytes; a word of 16 digits is a double, a shorter one a whole number, both
    /// little endian, and each must be the value that is written behind the semicolon.
    fn of(lua: &str) -> Example {
        let lines = lua.lines().skip_while(|line| !line.starts_with("-- Example"));
        let lines = lines.take_while(|line| line.starts_with("--")).filter_map(|line| line.strip_prefix("--   "));
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        for line in lines {
            let (bytes, values) = line.split_once(" ; ").unwrap_or((line, ""));
            let label = bytes.split_whitespace().next().filter(|_| !bytes.starts_with(' '));
            if let Some(label) = label {
                fields.push((label.to_owned(), Vec::new()));
            }
            let bytes = bytes.strip_prefix(label.unwrap_or_default()).expect("it begins with its label").trim();
            let field = &mut fields.last_mut().expect("the first line has a label").1;
            if let Some(text) = bytes.strip_prefix('"') {
                field.extend_from_slice(text.strip_suffix('"').expect("the text is closed").as_bytes());
                continue;
            }
            let words: Vec<Vec<u8>> = bytes.split_whitespace().map(|word| unhex(word, line)).collect();
            let read: Vec<String> = words.iter().map(|word| number(word)).collect();
            let said: Vec<&str> =
                values.split_whitespace().filter_map(|value| value.split_once('=')).map(|v| v.1).collect();
            assert_eq!(read, said, "what is said of the words of: {line}");
            words.iter().for_each(|word| field.extend_from_slice(word));
        }
        assert!(!fields.is_empty(), "the file has an example");
        Example { fields }
    }

    /// The fields whose label begins like this, in order.
    fn all(&self, label: &str) -> Vec<Vec<u8>> {
        self.fields.iter().filter(|(name, _)| name.starts_with(label)).map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn unhex(word: &str, line: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        (0..word.len()).step_by(2).map(|at| u8::from_str_radix(word.get(at..at + 2)?, 16).ok()).collect();
    digits.unwrap_or_else(|| panic!("{word:?} isn't in hexadecimal digits: {line}"))
}

fn number(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(double) => f64::from_le_bytes(double).to_string(),
        Err(_) => bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)).to_string(),
    }
}

/// A `redis-server` of this test's own, behind a socket in a directory of its own.
struct Server {
    child: Child,
    stream: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("s");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let log = BufReader::new(child.stdout.take().expect("it is piped"));
        let is_ready = log.lines().map_while(Result::ok).any(|line| line.contains("ready to accept connections at"));
        assert!(is_ready, "redis-server ended before it was ready");
        let stream = BufReader::new(UnixStream::connect(&socket).expect("it listens"));
        Server { child, stream, _dir: dir }
    }

    /// Sends a command as it would go over the wire, and returns the bytes of its reply: a text's, else the line's.
    fn send(&mut self, packed: &[u8]) -> Vec<u8> {
        self.stream.get_mut().write_all(packed).expect("the server reads");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        let Some(length) = line.strip_prefix('$').and_then(|length| length.trim_end().parse::<usize>().ok()) else {
            return line.trim_end().as_bytes().to_vec();
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).expect("the server says the length");
        bytes.truncate(length);
        bytes
    }

    fn get(&mut self, key: &[u8]) -> Vec<u8> {
        self.send(&redis::cmd("GET").arg(key).get_packed_command())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One counter of an example: its entry's key and value, its limit and what it costs.
type Counter<'a> = (&'a str, &'a str, Limit, Cost);

const ONE: Cost = Cost { hits: 1, charge_denied: false };

/// 5 per 10 s, counted in sub-windows of 1 s.
const SLIDING: Limit = Limit { sub_windows: 10, ..Limit::new(5, TEN, Algorithm::SlidingWindow) };
/// 1 per 10 s.
const FIXED: Limit = Limit::new(1, TEN, Algorithm::FixedWindow);
const TEN: Micros = Micros(10 * SECOND.0);

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit, cost: Cost) -> CounterCheck<'a> {
    let key = Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 };
    CounterCheck { key, rule: 0, limit, cost, role: Role::Enforced }
}

fn request(now: u64, counters: &[Counter<'_>]) -> Request {
    let entries: Vec<[Entry<'_>; 1]> = counters.iter().map(|&(key, value, ..)| [Entry { key, value }]).collect();
    let checks: Vec<CounterCheck<'_>> =
        counters.iter().zip(&entries).map(|(&(_, _, limit, cost), entries)| ask(entries, limit, cost)).collect();
    Request::new(&checks, Gate::default(), false, now, "", |_| 3)
}

/// The arguments behind the command and the script.
fn arguments(cmd: &Cmd) -> Vec<Vec<u8>> {
    cmd.args_iter()
        .skip(2)
        .map(|arg| match arg {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("no cursors here"),
        })
        .collect()
}

/// Compares the call for these requests with the example, runs it, and compares the reply and what lies in Redis afterwards.
fn check(example: &Example, server: &mut Server, now: u64, requests: &[Request]) {
    let script = Script::of_slot();
    let (_, cmd) = Batch::new(requests.iter(), &script, CHANNEL, now, 0);
    let (keys, args) = (example.all("KEYS"), example.all("ARGV"));
    let expected = [&[keys.len().to_string().into_bytes()][..], &keys, &args].concat();
    assert_eq!(arguments(&cmd), expected, "the number of keys, KEYS and ARGV");
    let reply = server.send(&script.with_text(&cmd).get_packed_command());
    assert_eq!(reply, example.all("reply").concat(), "the reply");
    for (nth, value) in example.all("GET").iter().enumerate() {
        assert_eq!(server.get(&keys[nth]), *value, "the value of key {}", nth + 1);
    }
}

/// Decides the same by a call over all slots of a node, on a Redis of its own, and compares it with a call over one slot.
fn decide_as_of_node(servers: &mut [Server; 2], now: u64, requests: &[Request]) {
    let [of_slot, of_node] = [Script::of_slot(), Script::of_node()];
    let (batch, declared) = Batch::new(requests.iter(), &of_slot, CHANNEL, now, 0);
    let (_, undeclared) = Batch::new(requests.iter(), &of_node, CHANNEL, now, 0);
    let (declared_args, undeclared_args) = (arguments(&declared), arguments(&undeclared));
    let number = declared_args[0].clone();
    let expected = [&[b"0".to_vec()][..], &declared_args[1..], std::slice::from_ref(&number)].concat();
    assert_eq!(undeclared_args, expected, "the same arguments, and the number of keys behind them");
    let replies = [
        servers[0].send(&of_slot.with_text(&declared).get_packed_command()),
        servers[1].send(&of_node.with_text(&undeclared).get_packed_command()),
    ];
    // The same answer may be written in two ways.
    let all = replies.map(|reply| {
        let result = batch.read(&reply).and_then(|reply| reply.result).expect("a full answer");
        let readings: Vec<_> =
            (0..requests.len()).map(|nth| batch.readings(&result, nth).expect("here").to_vec()).collect();
        (result.damaged, result.damaged_first, result.ahead, readings)
    });
    assert_eq!(all[0], all[1], "the answers");
    let keys: usize = String::from_utf8_lossy(&number).parse().expect("a number");
    for key in &declared_args[1..=keys] {
        let [a, b] = servers.each_mut().map(|server| server.get(key));
        assert_eq!(a, b, "the value of {}", String::from_utf8_lossy(key));
    }
}

#[test]
fn a_call_over_all_slots_of_a_node_decides_as_one_over_one_slot() {
    let mut servers = [Server::start(), Server::start()];
    let all = Algorithm::ALL.map(|algorithm| Limit { burst: 3, sub_windows: 10, ..Limit::new(3, TEN, algorithm) });
    let users: Vec<String> = (0..7).map(|nth| format!("u{nth}")).collect();
    // What is no string counts as absent, and is damaged.
    for limit in all {
        let key = request(NOW, &[("user", "u3", limit, ONE)]).keys().next().expect("it has one").to_vec();
        let hash = redis::cmd("HSET").arg(key).arg("field").arg("value").get_packed_command();
        servers.iter_mut().for_each(|server| assert_eq!(server.send(&hash), b":1"));
    }
    let back = Cost { hits: -1, charge_denied: false };
    for (nth, moment) in [NOW, NOW, LATER, LATER + 8 * SECOND.0, LATER + 60 * SECOND.0].into_iter().enumerate() {
        let mut requests: Vec<Request> = Vec::new();
        for limit in all {
            requests.extend(users.iter().map(|user| request(moment, &[("user", user, limit, ONE)])));
            requests.extend((0..3).map(|_| request(moment, &[("hot", "h", limit, ONE)])));
            requests.push(request(moment, &[("user", "u1", limit, ONE), ("user", "new", limit, ONE)]));
            if nth % 2 == 1 {
                requests.push(request(moment, &[("user", "u2", limit, back)]));
            }
        }
        decide_as_of_node(&mut servers, moment, &requests);
    }
}

fn decide_example(server: &mut Server) {
    let a = || request(NOW, &[("user", "a", SLIDING, ONE)]);
    let with_path = |user| request(NOW, &[("user", user, SLIDING, ONE), ("path", "/up", FIXED, ONE)]);
    check(&Example::of(DECIDE), server, NOW, &[a(), a(), with_path("b"), with_path("c")]);
}

fn careful_example(server: &mut Server) {
    let requests = [
        request(LATER, &[("user", "a", SLIDING, Cost { hits: -1, charge_denied: false })]),
        request(LATER, &[("path", "/up", FIXED, Cost { hits: 1, charge_denied: true })]),
        request(LATER, &[("user", "e", Limit::new(2, TEN, Algorithm::TokenBucket), ONE)]),
    ];
    check(&Example::of(CAREFUL), server, LATER, &requests);
}

#[test]
fn the_example_of_decide_lua_is_true() {
    decide_example(&mut Server::start());
}

#[test]
fn the_examples_of_careful_lua_and_reset_lua_are_true() {
    let mut server = Server::start();
    decide_example(&mut server);
    careful_example(&mut server);

    let example = Example::of(RESET);
    let counters = ["a", "c"].map(|user| {
        let request = request(NOW, &[("user", user, SLIDING, ONE)]);
        request.keys().next().expect("it has one").to_vec()
    });
    let entry = AuditEntry { stream: "tg1:audit:{d}", text: "reset by ops", kept: 1_000 };
    let command = reset::command(&counters, Some(entry), (CHANNEL, None));
    let (keys, args) = (example.all("KEYS"), example.all("ARGV"));
    let expected = [&[keys.len().to_string().into_bytes()][..], &keys, &args].concat();
    assert_eq!(
        arguments(command.cmd_iter().next().expect("one command")),
        expected,
        "the number of keys, KEYS and ARGV"
    );
    assert_eq!(server.send(&command.get_packed_pipeline()), example.all("reply").concat(), "the reply");
    assert_eq!(server.get(&counters[0]), b"$-1", "the counter is gone");
}

#[test]
fn no_comment_goes_to_redis_and_no_code_is_left_out() {
    for (script, keys) in [(Script::of_slot(), KEYS_OF_SLOT), (Script::of_node(), KEYS_OF_NODE)] {
        let text = script.text;
        let is_comment = |line: &str| line.trim_start().starts_with("--");
        assert!(!text.lines().any(is_comment));
        let files = [DECIDE, keys].into_iter().chain(PARTS.map(|(_, text)| text));
        let code = files.flat_map(str::lines).filter(|line| !is_comment(line)).count();
        assert_eq!(text.lines().count(), code);
    }
}
