//! The last set that was accepted, kept in the state directory: what a start goes on with while the control plane is
//! away. Holds the set as it came, so that it is checked again like any other.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;

use crate::state_dir;

const FILE: &str = "control-plane.pb";

#[derive(Clone, Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub(super) fn new(directory: &Path) -> Kept {
        Kept { directory: directory.to_owned() }
    }

    pub(super) fn save(&self, set: &DiscoveryResponse) -> io::Result<()> {
        state_dir::make(&self.directory)?;
        state_dir::replace_checked(&self.directory.join(FILE), &set.encode_to_vec())
    }

    /// `None` where nothing was kept; an error where it can't be read.
    pub(super) fn load(&self) -> io::Result<Option<DiscoveryResponse>> {
        let path = self.directory.join(FILE);
        let Some(bytes) = state_dir::read_checked(&path)? else { return Ok(None) };
        let set = DiscoveryResponse::decode(&*bytes);
        set.map(Some).map_err(|error| state_dir::at(&path, io::Error::other(error)))
    }
}
