//! What becomes of requests while Redis is killed, stopped, cut off, filled up, emptied or moved, and while Tollgate itself
//! is restarted: real processes under an open-loop load, with a log of every answer. Run with all other tests it is
//! short and holds what no busy machine can excuse; `tests/chaos.sh` runs it alone, long, and holds every goal.

mod faults;
pub(crate) mod proxy;
mod report;
mod run;
mod traffic;
