//! The last accepted set, saved in the state directory: a start uses it while the control plane is unreachable. Saved
//! as received, so that it is checked again like any other.

use std::{io, path::Path};

use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;

use crate::state_dir::CheckedFile;

const FILE: &str = "control-plane.pb";

#[derive(Clone, Debug)]
pub(super) struct SavedSet {
    file: CheckedFile,
}

impl SavedSet {
    pub(super) fn new(directory: &Path) -> SavedSet {
        SavedSet { file: CheckedFile::new(directory, FILE) }
    }

    pub(super) fn save(&self, set: &DiscoveryResponse) -> io::Result<()> {
        self.file.save(&set.encode_to_vec())
    }

    /// `None` where nothing was kept; an error where it can't be read.
    pub(super) fn load(&self) -> io::Result<Option<DiscoveryResponse>> {
        self.file.load(|content| DiscoveryResponse::decode(content))
    }
}
