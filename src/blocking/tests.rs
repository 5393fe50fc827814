use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use tokio::{runtime, sync::oneshot};

use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

#[test]
fn work_runs_on_another_thread_and_its_result_comes_back() {
    let trace = thread::current().id();
    assert_ne!(run(blocking(|| thread::current().id())), trace);
    assert_ne!(run(try_blocking(|| thread::current().id())).expect("it doesn't panic"), trace);
    let there = run(async {
        let (tell, told) = oneshot::channel();
        in_background(move || tell.send(thread::current().id()).expect("somebody waits"));
        told.await.expect("it is told")
    });
    assert_ne!(there, trace);
}

#[test]
fn a_panic_goes_on_in_the_caller_or_is_an_error_as_the_caller_chose() {
    let panic = catch_unwind(AssertUnwindSafe(|| run(blocking(|| panic!("no disk"))))).expect_err("it goes on");
    assert_eq!(panic.downcast_ref(), Some(&"no disk"));
    let error = run(try_blocking(|| panic!("no disk"))).expect_err("it is an error");
    assert!(error.is_panic() && error.to_string().contains("no disk"), "{error}");
}
