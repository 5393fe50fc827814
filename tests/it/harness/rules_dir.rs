//! A folder of rule files, written as a careful editor does: whole, then renamed into place.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub(crate) struct RulesDir {
    dir: TempDir,
}

impl RulesDir {
    pub(crate) fn empty() -> RulesDir {
        RulesDir { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn with(file: &str, text: &str) -> RulesDir {
        let rules = RulesDir::empty();
        rules.write(file, text);
        rules
    }

    /// `file` may be in directories below.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("the directory is ours");
        let temporary = path.with_file_name(format!(".{}.new", path.file_name().expect("a name").display()));
        std::fs::write(&temporary, text).expect("the directory is ours");
        std::fs::rename(temporary, self.path().join(file)).expect("the directory is ours");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lays `files` out as Kubernetes mounts a ConfigMap: a folder per version, `..data` pointing at the newest, and each
    /// file a link through `..data`. Called again it swaps `..data` and removes the version before.
    pub(crate) fn mount_config_map(&self, version: &str, files: &[(&str, &str)]) {
        let folder = self.path().join(format!("..{version}"));
        std::fs::create_dir(&folder).expect("a version is mounted once");
        for (file, text) in files {
            std::fs::write(folder.join(file), text).expect("the directory is ours");
        }
        let data = self.path().join("..data");
        let before: Option<PathBuf> = std::fs::read_link(&data).ok();
        let next = self.path().join("..data_tmp");
        std::os::unix::fs::symlink(format!("..{version}"), &next).expect("the name is free");
        std::fs::rename(next, &data).expect("a rename replaces");
        for (file, _) in files {
            let link = self.path().join(file);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(Path::new("..data").join(file), link).expect("the name is free");
            }
        }
        if let Some(before) = before {
            std::fs::remove_dir_all(self.path().join(before)).expect("the version before is ours");
        }
    }
}
