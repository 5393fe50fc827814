use std::future::pending;

use futures_util::FutureExt;

use super::*;

#[tokio::test]
async fn a_task_that_returns_or_panics_before_the_stop_is_reported_by_its_name() {
    for ends in [async {}.boxed(), async { panic!("a defect") }.boxed()] {
        let tasks = Tasks::default();
        tasks.another().spawn("another", pending::<()>());
        tasks.another().spawn_to_finish("sweeping", ends);
        assert_eq!(tasks.ended_early().await.to_string(), "sweeping ended early");
    }
}

#[tokio::test]
async fn the_first_task_that_ends_early_is_the_one_that_is_reported() {
    let tasks = Tasks::default();
    drop((tasks.needed("first"), tasks.needed("second")));
    assert_eq!(tasks.ended_early().await.to_string(), "first ended early");
}

#[tokio::test]
async fn tasks_that_end_because_their_group_stops_have_not_ended_early() {
    let (tasks, finished) = (Tasks::default(), CancellationToken::new());
    let others = tasks.another();
    tasks.spawn("one that has nothing to finish", pending::<()>());
    let (stopping, finish) = (tasks.stopping().clone(), finished.clone());
    tasks.spawn_to_finish("one that has", async move {
        stopping.cancelled().await;
        finish.cancel();
    });
    tasks.stop();
    tasks.ended().await;
    assert!(finished.is_cancelled() && tasks.ended_early().now_or_never().is_none());
    assert!(!others.stopping().is_cancelled(), "the other group goes on");
}
