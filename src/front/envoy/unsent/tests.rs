use super::*;

fn core() -> Arc<CoreAnswers> {
    CoreAnswers::new(Duration::from_secs(4))
}

fn connection(core: &Arc<CoreAnswers>) -> (RegisteredConnection, CancellationToken) {
    let registered = core.register(&CancellationToken::new());
    let end = registered.0.end.clone();
    (registered, end)
}

fn answer(of: &RegisteredConnection, length: usize) -> Bytes {
    of.answers().answer(length, |bytes| bytes.fill(7))
}

#[test]
fn an_answer_counts_from_its_making_until_its_last_byte_is_dropped() {
    let core = core();
    let (one, end) = connection(&core);
    for length in [3, USUAL_BYTES, USUAL_BYTES + 1, 10_000] {
        let mut bytes = answer(&one, length);
        assert_eq!(bytes, vec![7; length]);
        let first = bytes.split_to(1);
        drop(bytes);
        assert_eq!(core.bytes.load(Relaxed), STREAM_BYTES + length as u64);
        drop(first);
        assert_eq!((core.bytes.load(Relaxed), one.answers().sum()), (0, 0));
    }
    drop(one.answers().count_other(Bytes::from_static(b"other")));
    assert_eq!((core.bytes.load(Relaxed), one.untaken()), (0, None));
    assert!(!end.is_cancelled());
}

#[tokio::test]
async fn nothing_steps_where_there_is_no_connection() {
    use futures_util::FutureExt as _;

    let core = core();
    assert_eq!(core.in_use().now_or_never(), None);
    let waiting = tokio::spawn({
        let core = Arc::clone(&core);
        async move { core.in_use().await }
    });
    let (one, _) = connection(&core);
    waiting.await.expect("it ends with the first connection");
    assert_eq!(core.in_use().now_or_never(), Some(()));
    drop(one);
    assert_eq!(core.in_use().now_or_never(), None);
}

#[test]
fn a_connection_ends_when_one_answer_is_overdue_and_not_while_answers_come_and_go() {
    let core = core();
    let ((slow, slow_ends), (honest, honest_ends)) = (connection(&core), connection(&core));
    core.step();
    let held = answer(&slow, 1);
    let mut waiting = answer(&honest, 1);
    for _ in 0..STEPS {
        core.step();
        // Always one, and never the same.
        waiting = {
            drop(waiting);
            answer(&honest, 1)
        };
        assert!(!slow_ends.is_cancelled());
    }
    core.step();
    assert!(slow_ends.is_cancelled() && !honest_ends.is_cancelled());
    assert_eq!((slow.untaken(), honest.untaken()), (Some(1), None));
    drop((held, waiting));
    for _ in 0..3 * PLACES {
        core.step();
    }
    assert!(!honest_ends.is_cancelled());
}

#[test]
fn a_connection_that_holds_too_much_ends_and_no_other() {
    let core = core();
    let ((greedy, greedy_ends), (_other, other_ends)) = (connection(&core), connection(&core));
    let mut held = Vec::new();
    while !greedy_ends.is_cancelled() {
        held.push(answer(&greedy, 1 << 20));
        assert!(held.len() <= 16, "16 MiB");
    }
    assert!(!other_ends.is_cancelled());
    assert_eq!(core.bytes.load(Relaxed), 0, "what it holds is as good as gone");
    drop(held);
    assert_eq!(core.bytes.load(Relaxed), 0);
}

#[test]
fn connections_that_hold_too_much_together_end_by_how_long_they_have_not_been_empty() {
    let core = core();
    let mut hoarders: Vec<_> = (0..100).map(|_| (connection(&core), Vec::new())).collect();
    let (honest, honest_ends) = connection(&core);
    for _ in 0..3_000 {
        for ((registered, _), held) in &mut hoarders {
            held.push(answer(registered, 1));
        }
        let some: Vec<Bytes> = (0..100).map(|_| answer(&honest, 1)).collect();
        drop(some);
        assert!(core.bytes.load(Relaxed) <= CORE_BYTES_MAX);
    }
    assert!(!honest_ends.is_cancelled());
    let ended: Vec<bool> = hoarders.iter().map(|((_, end), _)| end.is_cancelled()).collect();
    assert!(ended[0] && !ended[99], "the oldest first");
    assert!(ended.is_sorted_by(|one, other| one >= other));
    drop(hoarders);
    assert_eq!((core.bytes.load(Relaxed), core.connections.lock().len()), (0, 1));
}
