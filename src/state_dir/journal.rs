//! A file of JSON objects, a line each: appended to and synced before anybody is told that a line is kept, and written anew
//! as a whole where its owner wants that. Each line has a checksum.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{append, at, line, read, replace, unline};

/// Open, with what is known of its end.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Up to the end of the last whole line.
    bytes: u64,
    lines: usize,
    /// Whether a part of a line may stand behind that, which must go before the next line comes.
    has_part: bool,
}

impl Journal {
    /// Opens or makes a file and reads its lines. A last line that was cut off by a crash was never answered, and is
    /// dropped. Anything else that can't be read is damage: the file as it was is copied aside, and begins anew with what
    /// can be read, so that an older damage is never told again.
    pub(crate) fn open<T: Serialize + DeserializeOwned>(path: PathBuf) -> io::Result<(Journal, Vec<T>)> {
        let bytes = read(&path)?.unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (lines, damaged) = lines(&bytes);
        let file = append(&path)?;
        let mut journal = Journal { path, file, bytes: whole as u64, lines: lines.len(), has_part: true };
        if let Some(first) = damaged.first() {
            let aside = journal.path.with_extension("ndjson.damaged");
            replace(&aside, |out| out.write_all(&bytes))?;
            tracing::error!(file = %journal.path.display(), lines = damaged.len(), first, copy = %aside.display(),
                "skipped damaged lines; the file was first copied as it was");
            journal.rewrite(lines.iter())?;
        } else {
            journal.drop_part()?;
        }
        Ok((journal, lines))
    }

    /// Lines that it has, whether or not a later one replaces them.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Adds a line. After an error nothing of it is there.
    pub(crate) fn append(&mut self, object: &impl Serialize) -> io::Result<()> {
        let text = line(&serde_json::to_string(object)?);
        self.drop_part()?;
        self.has_part = true;
        if let Err(error) = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()) {
            self.drop_part()?;
            return Err(at(&self.path, error));
        }
        self.has_part = false;
        self.bytes += text.len() as u64;
        self.lines += 1;
        Ok(())
    }

    /// Half a line would spoil the one after it.
    fn drop_part(&mut self) -> io::Result<()> {
        if self.has_part {
            self.file.set_len(self.bytes).map_err(|error| at(&self.path, error))?;
            self.has_part = false;
        }
        Ok(())
    }

    /// Writes it anew, with these objects alone.
    pub(crate) fn rewrite(&mut self, objects: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        let (file, (bytes, count)) = replace(&self.path, |out| {
            let (mut bytes, mut count) = (0, 0);
            for object in objects {
                let text = line(&serde_json::to_string(&object)?);
                out.write_all(text.as_bytes())?;
                (bytes, count) = (bytes + text.len() as u64, count + 1);
            }
            Ok((bytes, count))
        })?;
        (self.file, self.bytes, self.lines, self.has_part) = (file, bytes, count, false);
        Ok(())
    }
}

/// What can be read, and the numbers of the lines that can't.
fn lines<T: DeserializeOwned>(bytes: &[u8]) -> (Vec<T>, Vec<usize>) {
    let (mut lines, mut damaged) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let Ok(object) = unline(line) else {
            damaged.push(number);
            continue;
        };
        match serde_json::from_slice::<T>(&object) {
            Ok(read) if line.ends_with(b"\n") => lines.push(read),
            Err(error) if line.ends_with(b"\n") || !error.is_eof() => damaged.push(number),
            // The last, cut off.
            Ok(_) | Err(_) => {}
        }
    }
    (lines, damaged)
}
