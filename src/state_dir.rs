//! The files of the state directory: how each is written so that a crash, a second writer or a planted link can't spoil
//! it, and how damage is seen when it is read; and whose the directory is. Knows nothing of what the files say, and imports
//! nothing of the crate.
//!
//! Every file is its owner's alone (mode 0600, the directory 0700). What is written is synced before anybody is told that it
//! is kept, and so is the directory where a name is new in it: else a crash could take the file with the name.

mod journal;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    hash::Hasher,
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;

pub(crate) use self::journal::Journal;

/// The file that is locked for as long as a process holds the directory.
const LOCK: &str = "lock";

/// What temporary files end with.
const TEMPORARY: &str = ".new";

static MAKING: Mutex<()> = Mutex::new(());

/// What a file with a checksum begins with; 64 hexadecimal digits, a line break and the content follow. No JSON and no
/// protobuf message begins like this, so that files of versions that wrote no checksum are told apart.
const CHECKED: &[u8] = b"tollgate sha256 ";
const HEAD: usize = CHECKED.len() + 65;

/// What stands before the checksum of a line, and the length of all that follows its content.
const SUM: &str = r#","sum":""#;
const SUM_LENGTH: usize = SUM.len() + 16 + r#""}"#.len();

/// Makes the directory, for its owner alone, if it isn't there.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| at(directory, error))
}

/// A directory that this process holds. The lock goes with the open file, so that it ends with the process however that ends.
pub(crate) struct DirectoryLock {
    _lock: File,
}

/// Takes the directory for this process, and makes it if it isn't there. `None`: another process holds it.
pub(crate) fn lock(directory: &Path) -> io::Result<Option<DirectoryLock>> {
    make(directory)?;
    let path = directory.join(LOCK);
    let lock =
        options(&path)?.create(true).truncate(false).write(true).open(&path).map_err(|error| at(&path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(DirectoryLock { _lock: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(&path, error)),
    }
}

/// Opens a file to be read. `None` where there is none.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, error)),
    }
}

/// All of a file. `None` where there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| at(path, error))?;
    Ok(Some(bytes))
}

/// Opens a file to be appended to, and makes it if it isn't there.
fn append(path: &Path) -> io::Result<File> {
    let is_new = !path.exists();
    let file = options(path)?.create(true).append(true).open(path).map_err(|error| at(path, error))?;
    if is_new {
        sync_directory(path).map_err(|error| at(path, error))?;
    }
    Ok(file)
}

/// Gives a file another name, such as one that is damaged.
pub(crate) fn rename(path: &Path, to: &Path) -> io::Result<()> {
    fs::rename(path, to).and_then(|()| sync_directory(to)).map_err(|error| at(path, error))
}

fn directory(of: &Path) -> &Path {
    of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Has the names of a file's directory on the disk.
fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(directory(of))?.sync_all()
}

/// How a state file is opened or made: for its owner alone. The error, where it is a link, which may lead anywhere.
fn options(path: &Path) -> io::Result<OpenOptions> {
    if path.is_symlink() {
        return Err(at(path, io::Error::other("it is a link, and files of the state directory are none")));
    }
    let mut options = OpenOptions::new();
    options.mode(0o600);
    Ok(options)
}

/// Writes a file anew as a whole: to a temporary file whose name nobody else has, for its owner alone, synced, and then
/// renamed. Whoever reads it sees the file before or after, also after a crash, and of several writers the last rename
/// counts, whole. Gives the file, open for appending, and what `write` gave.
pub(crate) fn replace<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<(File, T)> {
    let temporary = {
        // What was just made and isn't locked yet must not be swept away.
        let _making = MAKING.lock();
        sweep(path);
        Temporary::new(path)?
    };
    let failed = |error| at(&temporary.path, error);
    let mut out = BufWriter::with_capacity(1 << 18, temporary.file.try_clone().map_err(failed)?);
    let written = write(&mut out).map_err(failed)?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary.path, path).map_err(failed)?;
    sync_directory(path).map_err(failed)?;
    // Only temporary files are locked.
    let _ = file.unlock();
    Ok((file, written))
}

/// A file that is written anew as a whole each time, with a checksum.
#[derive(Clone, Debug)]
pub(crate) struct CheckedFile {
    path: PathBuf,
}

impl CheckedFile {
    pub(crate) fn new(directory: &Path, name: &str) -> CheckedFile {
        CheckedFile { path: directory.join(name) }
    }

    /// Makes the directory too, if it isn't there.
    pub(crate) fn save(&self, content: &[u8]) -> io::Result<()> {
        make(directory(&self.path))?;
        replace_checked(&self.path, content)
    }

    /// What `parse` makes of the content; `None` where nothing was saved. The error names the file, also where it is
    /// `parse`'s.
    pub(crate) fn load<T, E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> io::Result<Option<T>> {
        let Some(content) = read_checked(&self.path)? else { return Ok(None) };
        parse(&content).map(Some).map_err(|error| at(&self.path, io::Error::other(error)))
    }
}

/// Writes a file anew as [`replace`] does, with a checksum.
fn replace_checked(path: &Path, content: &[u8]) -> io::Result<()> {
    let head = head(content);
    replace(path, |out| {
        out.write_all(&head)?;
        out.write_all(content)
    })?;
    Ok(())
}

/// What [`replace_checked`] wrote, or a version of Tollgate that wrote no checksums. `None` where there is no file; an
/// error where it can't be read or is damaged.
fn read_checked(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(mut bytes) = read(path)? else { return Ok(None) };
    if !bytes.starts_with(CHECKED) {
        return Ok(Some(bytes));
    }
    let content = bytes.split_off(HEAD.min(bytes.len()));
    match bytes == head(&content) {
        true => Ok(Some(content)),
        false => Err(at(path, io::Error::other("it is damaged: its checksum is wrong"))),
    }
}

/// A JSON object on a line, with a checksum of it as its last field, which versions that knew none pass over.
fn line(object: &str) -> String {
    let fields = object.strip_suffix('}').expect("it is an object that has fields");
    format!("{fields}{SUM}{:016x}\"}}\n", sum(fields))
}

/// What [`line`] made a line of, or the line itself where it has no checksum. The error, where the checksum is wrong.
fn unline(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    let whole = line.strip_suffix(b"\n").unwrap_or(line);
    let split = whole.len().checked_sub(SUM_LENGTH).map(|middle| whole.split_at(middle));
    let Some((fields, tail)) = split.filter(|(_, tail)| tail.starts_with(SUM.as_bytes())) else {
        return Ok(line.to_owned());
    };
    let expected = std::str::from_utf8(fields).map(|fields| format!("{SUM}{:016x}\"}}", sum(fields)));
    match expected.is_ok_and(|expected| expected.as_bytes() == tail) {
        true => Ok([fields, b"}"].concat()),
        false => Err("its checksum is wrong"),
    }
}

pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn head(content: &[u8]) -> Vec<u8> {
    let mut head = CHECKED.to_vec();
    head.extend_from_slice(hex::encode(Sha256::digest(content)).as_bytes());
    head.push(b'\n');
    head
}

fn sum(text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// A temporary file, which goes if it isn't renamed. Its lock says that somebody writes it.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn new(of: &Path) -> io::Result<Temporary> {
        let path = of.with_file_name(format!("{}{:016x}{TEMPORARY}", prefix(of), rand::random::<u64>()));
        let failed = |error| at(&path, error);
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        // Where the file system knows no locks, what a crash leaves stays.
        let _ = file.lock();
        Ok(Temporary { path, file })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is none of this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn prefix(of: &Path) -> String {
    format!("{}.", of.file_name().unwrap_or_default().display())
}

/// Removes the temporary files of a state file that a crash left there. One that can't be removed takes room, and no more.
fn sweep(of: &Path) {
    let prefix = prefix(of);
    for entry in fs::read_dir(directory(of)).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(prefix.as_bytes()) && name.ends_with(TEMPORARY.as_bytes()) && is_left(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether nobody writes to it: a link, or a file without a lock.
fn is_left(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => File::open(path).is_ok_and(|file| file.try_lock().is_ok()),
        Ok(found) => !found.is_dir(),
        Err(_) => false,
    }
}
