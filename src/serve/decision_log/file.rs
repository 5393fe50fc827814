//! A file of lines that is renamed when it has become long, so that the newest lines are in PATH and older ones in PATH.1,
//! PATH.2 and so on. It may be renamed by others too (`logrotate`): lines go to what has its name. What is no usual file,
//! such as a pipe, is only written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub(super) struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    keep: u32,
    file: File,
    /// `None` for what is no usual file.
    written: Option<u64>,
}

impl LogFile {
    /// Opens a file to be appended to, or makes it, for its owner alone. Its last line may be cut off: a new one begins.
    pub(super) fn open(path: &Path, bytes_max: u64, keep: u32) -> io::Result<LogFile> {
        let (file, written) = open(path)?;
        Ok(LogFile { path: path.to_owned(), bytes_max, keep, file, written })
    }

    /// Appends whole lines. Where that fails, none of them is left in a usual file.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.written.is_some() && !self.is_at_its_place() {
            (self.file, self.written) = open(&self.path)?;
        }
        let Some(mut written) = self.written else { return self.file.write_all(lines) };
        let bytes = lines.len() as u64;
        if self.bytes_max > 0 && written > 0 && written + bytes > self.bytes_max {
            self.rotate()?;
            written = 0;
        }
        let appended = self.file.write_all(lines);
        match appended {
            Ok(()) => self.written = Some(written + bytes),
            Err(_) => {
                let _ = self.file.set_len(written);
                self.written = Some(written);
            }
        }
        appended
    }

    /// Whether the path still leads to the file that is open, and to all that was written.
    fn is_at_its_place(&self) -> bool {
        let is_same = |there: &fs::Metadata, here: &fs::Metadata| {
            (there.dev(), there.ino()) == (here.dev(), here.ino()) && Some(here.len()) == self.written
        };
        matches!((fs::metadata(&self.path), self.file.metadata()), (Ok(there), Ok(here)) if is_same(&there, &here))
    }

    /// Gives the files their next names, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            remove(&self.path)?;
        } else {
            remove(&self.numbered(self.keep))?;
            for number in (1..self.keep).rev() {
                rename(&self.numbered(number), &self.numbered(number + 1))?;
            }
            rename(&self.path, &self.numbered(1))?;
        }
        (self.file, self.written) = open(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    let is_usual = match fs::metadata(path) {
        Ok(there) => there.is_file(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if !is_usual {
        return Ok((OpenOptions::new().append(true).open(path)?, None));
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    let mut written = file.metadata()?.len();
    if written > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            written += 1;
        }
    }
    Ok((file, Some(written)))
}

/// What isn't there needs no new name.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    absent_is_fine(fs::rename(from, to))
}

fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
