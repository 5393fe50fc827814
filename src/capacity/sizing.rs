//! How many replicas and nodes a load wants.

use super::{
    Fleet, Load,
    limits::{COMFORTABLE, Host},
};

/// More than that of anything is another design.
const MOST: u32 = 1_000;

/// What the asker has decided already; what is left open is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub replicas: Option<u32>,
    pub nodes: Option<u32>,
}

impl Load {
    /// The smallest fleet in which nothing that can be left open is fuller than is comfortable: at least two replicas, and
    /// one Redis before a Cluster of three. Ends with the largest that is tried where none is enough.
    pub fn sized(mut self, sizes: Sizes, host: &Host) -> Load {
        self.fleet = Fleet { replicas: sizes.replicas.unwrap_or(2), nodes: sizes.nodes.unwrap_or(1), ..self.fleet };
        loop {
            let full = self.bounds(host).into_iter().filter(|bound| bound.share > COMFORTABLE);
            let full: Vec<&str> = full.map(|bound| bound.what).collect();
            let is_of_node = |what: &&str| what.ends_with("of a Redis node") && !what.starts_with("connections");
            let is_of_replica = |what: &&str| what.ends_with("of a replica") || what.ends_with("on a worker");
            let wants_nodes = full.iter().any(is_of_node) && sizes.nodes.is_none();
            let wants_replicas = full.iter().any(is_of_replica) && sizes.replicas.is_none();
            let fleet = &mut self.fleet;
            match (wants_nodes && fleet.nodes < MOST, wants_replicas && fleet.replicas < MOST) {
                (true, _) if fleet.nodes == 1 => fleet.nodes = 3,
                (true, _) => fleet.nodes += 1,
                (false, true) => fleet.replicas += 1,
                (false, false) => return self,
            }
        }
    }
}
