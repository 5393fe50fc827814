//! The logs that are played: files, plain or with gzip, and standard input, put together in the order of time.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context as _, bail};
use flate2::bufread::MultiGzDecoder;

use super::{
    line,
    recorded::{Recorded, Sample},
};
use crate::limit::{Code, UnixMicros};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Longest line: more than any request has, and little enough for a file that is no log.
const LINE_MAX: u64 = 16 << 20;

/// Keys of a sample that are named.
const KEYS_MAX: usize = 8;

/// The first bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// All logs as one.
pub(super) struct Input {
    logs: Vec<Log>,
    /// The logs that have a request, by its time.
    next: BinaryHeap<Reverse<(UnixMicros, usize)>>,
    /// The log that the last request came from.
    current: Option<usize>,
    now: UnixMicros,
    bytes_read: Rc<Cell<u64>>,
    /// Bytes of all files; `None` if it isn't known.
    bytes: Option<u64>,
    /// So far there was no request that may have been admitted.
    denials_only: bool,
    /// The share of clients, in parts of [`crate::limit::PARTS`]; that of the first request.
    share: Option<Option<u16>>,
    /// The keys that tell clients apart, in the order in which they came.
    by: Vec<Box<str>>,
    pub(super) counts: InputCounts,
}

/// What is said of the logs beside their requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InputCounts {
    /// Requests that came after later ones, and were played at the time of those.
    pub(super) out_of_order: u64,
    /// Requests that had more descriptors than the log has of them.
    pub(super) incomplete: u64,
    /// Logs whose last line was cut off.
    pub(super) truncated: u64,
    /// Requests of which none of the descriptors could be made.
    pub(super) without_descriptor: u64,
    /// Refused requests in a log that has a sample besides, which has its refused ones too.
    pub(super) denials: u64,
}

/// How the lines of a log are read.
pub(super) trait LineFormat {
    /// Reads a line, without its end. The error is for people.
    fn read(&mut self, line: &[u8], into: &mut Recorded) -> Result<LineRead, String>;

    /// Whether the line goes on with the next one.
    fn goes_on(&self, _line: &[u8]) -> bool {
        false
    }
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineRead {
    Request,
    /// A request that is none of the rules': it has no descriptor.
    Nothing,
    /// It says how others are read.
    Heading,
}

/// The decision log.
pub(super) struct DecisionLog;

impl LineFormat for DecisionLog {
    fn read(&mut self, line: &[u8], into: &mut Recorded) -> Result<LineRead, String> {
        line::read(line, into).map(|()| LineRead::Request)
    }
}

struct Log {
    name: String,
    from: Box<dyn BufRead>,
    format: Box<dyn LineFormat>,
    line: Vec<u8>,
    /// From 1.
    number: u64,
    /// The request that was read last.
    head: Recorded,
}

/// What a log has next.
enum LogRead {
    Request,
    Nothing,
    End,
    Truncated,
}

impl Input {
    /// Opens all logs; `-` is standard input.
    pub(super) fn open(
        paths: &[PathBuf],
        format: impl Fn() -> anyhow::Result<Box<dyn LineFormat>>,
    ) -> anyhow::Result<Input> {
        let bytes_read = Rc::new(Cell::new(0));
        let mut bytes = Some(0);
        let mut logs = Vec::new();
        for path in paths {
            let from: Box<dyn Read> = if path == Path::new("-") {
                bytes = None;
                Box::new(io::stdin())
            } else {
                let cannot = || format!("{} can't be read", path.display());
                let file = File::open(path).with_context(cannot)?;
                let meta = file.metadata().with_context(cannot)?;
                if meta.is_dir() {
                    bail!("{} is a directory: name the logs in it", path.display());
                }
                bytes = bytes.map(|bytes| bytes + meta.len()).filter(|_| meta.is_file());
                Box::new(file)
            };
            let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
            let counted = Counted { from, read: Rc::clone(&bytes_read) };
            let from = unpacked(counted).with_context(|| format!("{name} can't be read"))?;
            logs.push(Log { name, from, format: format()?, line: Vec::new(), number: 0, head: Recorded::default() });
        }
        let counts = InputCounts::default();
        let (next, now) = (BinaryHeap::with_capacity(logs.len()), UnixMicros(0));
        let mut input = Input {
            logs,
            next,
            current: None,
            now,
            bytes_read,
            bytes,
            denials_only: true,
            share: None,
            by: Vec::new(),
            counts,
        };
        for index in 0..input.logs.len() {
            input.advance(index)?;
        }
        Ok(input)
    }

    /// The next request in the order of time, and the time at which it is played.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(&Recorded, UnixMicros)>> {
        if let Some(index) = self.current.take() {
            self.advance(index)?;
        }
        let Some(Reverse((at, index))) = self.next.pop() else { return Ok(None) };
        self.current = Some(index);
        self.counts.out_of_order += u64::from(at < self.now);
        self.now = self.now.max(at);
        Ok(Some((&self.logs[index].head, self.now)))
    }

    /// The share of clients whose requests the logs have, in parts; `None` for all, or if there is no request.
    pub(super) fn share(&self) -> Option<u16> {
        self.share.flatten()
    }

    /// The keys of the entries that tell the sampled clients apart.
    pub(super) fn by(&self) -> &[Box<str>] {
        &self.by
    }

    /// Whether there are requests, and all were refused in a log that doesn't say that it has all.
    pub(super) fn holds_denials_only(&self) -> bool {
        self.denials_only && (self.share.is_some() || self.counts.denials > 0)
    }

    /// The place of the request that was returned last: `decisions.ndjson:17`.
    pub(super) fn place(&self) -> String {
        self.current.map_or_else(String::new, |index| self.logs[index].place())
    }

    /// The share that was read, from 0 to 1, if the length of all logs is known.
    pub(super) fn share_read(&self) -> Option<f64> {
        self.bytes.map(|bytes| self.bytes_read.get() as f64 / bytes.max(1) as f64)
    }

    /// Reads on in a log until it has a request that is played, or ends.
    fn advance(&mut self, index: usize) -> anyhow::Result<()> {
        loop {
            match self.logs[index].read()? {
                LogRead::Request if self.is_played(index)? => {
                    self.next.push(Reverse((self.logs[index].head.at, index)));
                    return Ok(());
                }
                LogRead::Request => {}
                LogRead::Nothing => self.counts.without_descriptor += 1,
                LogRead::End => return Ok(()),
                LogRead::Truncated => {
                    self.counts.truncated += 1;
                    return Ok(());
                }
            }
        }
    }

    /// Whether a request is one of those that stand for all.
    fn is_played(&mut self, index: usize) -> anyhow::Result<bool> {
        let log = &self.logs[index];
        self.denials_only &= log.head.sample == Sample::Denials
            || (log.head.sample == Sample::Unsaid && log.head.code == Some(Code::OverLimit));
        let share = match log.head.sample {
            Sample::Denials => {
                self.counts.denials += 1;
                return Ok(false);
            }
            Sample::Unsaid | Sample::All => None,
            Sample::Share(parts) => Some(parts),
        };
        if *self.share.get_or_insert(share) != share {
            bail!("{}: this request is of another sample than those before: play each sample by itself", log.place());
        }
        if let Some(key) = log.head.by().filter(|key| share.is_some() && !self.by.iter().any(|known| **known == **key))
            && self.by.len() < KEYS_MAX
        {
            self.by.push(key.into());
        }
        self.counts.incomplete += u64::from(log.head.is_incomplete);
        Ok(true)
    }
}

impl Log {
    fn place(&self) -> String {
        format!("{}:{}", self.name, self.number)
    }

    fn read(&mut self) -> anyhow::Result<LogRead> {
        loop {
            self.line.clear();
            if !self.read_line()? {
                return Ok(if self.line.is_empty() { LogRead::End } else { LogRead::Truncated });
            }
            let is_whole = self.line.ends_with(b"\n");
            let line = self.line.trim_ascii();
            if line.is_empty() {
                if is_whole {
                    continue;
                }
                return Ok(LogRead::End);
            }
            match self.format.read(line, &mut self.head) {
                Ok(LineRead::Request) => return Ok(LogRead::Request),
                Ok(LineRead::Nothing) => return Ok(LogRead::Nothing),
                Ok(LineRead::Heading) => {}
                Err(_) if !is_whole => return Ok(LogRead::Truncated),
                Err(what) => bail!("{}: {what}", self.place()),
            }
        }
    }

    /// `false`: there is nothing more, or what there is was cut off.
    fn read_line(&mut self) -> anyhow::Result<bool> {
        loop {
            let before = self.line.len();
            let room = LINE_MAX.saturating_sub(before as u64);
            self.number += 1;
            match (&mut *self.from).take(room).read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.len() as u64 >= LINE_MAX => {
                    bail!("{}: this line is longer than {} MiB: is it a log?", self.place(), LINE_MAX >> 20)
                }
                Ok(0) => return Ok(before > 0),
                Ok(_) if self.line.ends_with(b"\n") && self.format.goes_on(&self.line) => {}
                Ok(_) => return Ok(true),
                // What was packed ends early, as where it is still being written.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.line.push(b' ');
                    return Ok(false);
                }
                Err(error) => return Err(error).with_context(|| format!("{} can't be read", self.place())),
            }
        }
    }
}

/// Whether it is gzip is seen by its first bytes, so that standard input may be either.
fn unpacked(from: Counted) -> io::Result<Box<dyn BufRead>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    Ok(if from.fill_buf()?.starts_with(&GZIP) {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(from)))
    } else {
        Box::new(from)
    })
}

/// Counts what is read of a file, for the progress.
struct Counted {
    from: Box<dyn Read>,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}
