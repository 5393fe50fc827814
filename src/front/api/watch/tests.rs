use super::*;

/// A watch of this process alone, whose watcher has room for so many events.
fn watched(room: usize) -> (WatchTask, mpsc::Receiver<WatchEvent>) {
    let (sender, receiver) = mpsc::channel(room);
    let watch = Arc::new(DecisionWatch::new("w", WatchFilter::default()));
    let guard = EndOfWatch { feed: None, id: "w".into() };
    (WatchTask { watch, guard, fleet: None, posted: None, sender, left_out: 0, sent: Sent::default() }, receiver)
}

fn lines(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|nth| Arc::from(nth.to_string())).collect()
}

#[test]
fn who_reads_slowly_loses_lines_and_hears_how_many() {
    let (mut task, mut receiver) = watched(4);
    task.send_all(lines(10), 3);
    for nth in 0..4 {
        assert_eq!(receiver.try_recv(), Ok(WatchEvent::Decision(Arc::from(nth.to_string()))));
    }
    receiver.try_recv().expect_err("there was no room for more, not even for the number");
    task.send_all(lines(1), 0);
    assert_eq!(receiver.try_recv(), Ok(WatchEvent::Decision(Arc::from("0"))));
    assert_eq!(receiver.try_recv(), Ok(WatchEvent::LeftOut(9)), "six that had no room, and three of others");
    task.send_all(lines(1), 0);
    receiver.try_recv().expect("the line");
    receiver.try_recv().expect_err("told once");
}

#[test]
fn so_many_lines_a_second_are_sent_whatever_replicas_send() {
    let (mut task, mut receiver) = watched(4_096);
    task.send_all(lines(1_500), 0);
    let sent = std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>();
    assert_eq!(sent.len(), LINES_PER_SECOND as usize + 1);
    assert_eq!(sent.last(), Some(&WatchEvent::LeftOut(1_500 - u64::from(LINES_PER_SECOND))));
    for _ in 0..fleet::LOOKS_PER_SECOND {
        task.look();
    }
    task.send_all(lines(1), 0);
    assert_eq!(receiver.try_recv(), Ok(WatchEvent::Decision(Arc::from("0"))), "of the next second");
}

#[test]
fn a_watch_asks_for_what_can_be_meant() {
    let privacy = Privacy::default();
    let asked = |only: &str, entry: &str, lasts: &str| {
        let (only, entry, r#for) = (only.into(), entry.into(), lasts.into());
        read(&WatchDecisionsRequest { only, entry, r#for, ..WatchDecisionsRequest::default() }, None, &privacy)
    };
    assert_eq!(asked("", "", "").expect("all, for a while").1, LASTS);
    let (filter, lasts) = asked("shadow", "user=alice", "1h").expect("all is meant so");
    assert_eq!((filter.only, filter.entry), (Some(WatchedKind::Shadow), Some(("user".into(), "alice".into()))));
    assert_eq!(lasts, LASTS_MAX);
    for (only, entry, lasts) in [("refused", "", ""), ("", "user", ""), ("", "", "2h"), ("", "", "10ms"), ("", "", "x")]
    {
        asked(only, entry, lasts).expect_err("it can't be meant");
    }
}
