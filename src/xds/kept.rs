//! The last set that was accepted, kept in the state directory: what a start goes on with while the control plane is
//! away. Holds the set as it came, so that it is checked again like any other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;

const FILE: &str = "control-plane.pb";
const TEMPORARY: &str = "control-plane.pb.new";

#[derive(Clone, Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub(super) fn new(directory: &Path) -> Kept {
        Kept { directory: directory.to_owned() }
    }

    pub(super) fn save(&self, set: &DiscoveryResponse) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let temporary = self.directory.join(TEMPORARY);
        let mut out = fs::File::create(&temporary)?;
        io::Write::write_all(&mut out, &set.encode_to_vec())?;
        out.sync_all()?;
        fs::rename(temporary, self.directory.join(FILE))
    }

    /// `None` where nothing was kept; an error where it can't be read.
    pub(super) fn load(&self) -> io::Result<Option<DiscoveryResponse>> {
        match fs::read(self.directory.join(FILE)) {
            Ok(bytes) => DiscoveryResponse::decode(&*bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
