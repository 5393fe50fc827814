//! How subcommands print: lines or JSON, with colours where somebody looks, once or again and again.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::Exit;
use crate::{
    limit::{UnixMicros, moment},
    rules, visible,
};

/// Flags of every subcommand that shows something.
#[derive(Args, Clone, Debug)]
pub(super) struct OutputArgs {
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Whether to colour what is printed; NO_COLOR counts as never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// A colour, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Attention,
    /// What stands out.
    Strong,
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl OutputArgs {
    pub(super) fn paint(&self) -> Paint {
        Paint(match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
                let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
                io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
            }
        })
    }
}

impl Paint {
    #[cfg(test)]
    pub(super) const fn plain() -> Paint {
        Paint(false)
    }

    pub(super) fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Attention => "33",
            Tone::Strong => "1",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Prints text as it is, which must be fit for a terminal.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match write(text) {
        // Whoever reads may have read enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// As it is printed: indented, and fit for a terminal.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(visible::json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Prints what `draw` makes again and again, until Ctrl-C or until nobody reads any more: on a terminal in the same place,
/// else one after the other. A first time that fails is an error; later ones are said, and tried again.
pub(super) async fn watch(
    every: Duration,
    mut draw: impl AsyncFnMut() -> anyhow::Result<String>,
) -> anyhow::Result<Exit> {
    let is_terminal = io::stdout().is_terminal();
    let mut is_first = true;
    loop {
        let drawn = tokio::select! {
            drawn = draw() => drawn,
            ended = tokio::signal::ctrl_c() => return ended.map(|()| Exit::Done).map_err(Into::into),
        };
        let text = match drawn {
            Err(error) if is_first => return Err(error),
            Err(error) => format!("{}\n", visible::lines(&format!("{error:#}"))),
            Ok(text) => text,
        };
        // Home, the text, and what stood below it away: cleared first, the screen would flicker.
        let text = match (is_terminal, is_first) {
            (true, _) => format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n")),
            (false, true) => text,
            (false, false) => format!("\n{text}"),
        };
        let text = if is_terminal && is_first { format!("\u{1b}[2J{text}") } else { text };
        match write(&text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written?,
        }
        is_first = false;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            ended = tokio::signal::ctrl_c() => return ended.map(|()| Exit::Done).map_err(Into::into),
        }
    }
}

/// A length of time on the command line: of `--since` back from now, of `--for` on from now.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) written: String,
}

/// Reads `30s`, `10m`, `4h`, `7d`, `1h30m`.
pub(super) fn span(text: &str) -> Result<Span, String> {
    let read = rules::duration(text);
    read.map(|_| Span { written: text.trim().to_owned() })
        .map_err(|why| format!("{why}; write it as 30s, 10m, 4h or 7d"))
}

/// A moment in UTC as a service wrote it, and how far it is from now: `2026-11-28T20:57:56Z (in 4 h)`. What is no moment
/// stays as it is.
pub(super) fn moment(text: &str, now: UnixMicros) -> String {
    if text.is_empty() {
        return String::new();
    }
    moment::parse(text).map_or_else(|_| text.to_owned(), |at| format!("{text} ({})", moment::distance(at, now)))
}

/// Rows below their headings, in columns as wide as what stands in them. The first `numbers` columns stand to the right; the
/// last is as long as it is. The cells must be fit for a terminal.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]], numbers: usize) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([headings[at].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cell = |(at, text): (usize, &str)| match widths[at] {
            _ if at + 1 == N => text.to_owned(),
            width if at < numbers => format!("{text:>width$}"),
            width => format!("{text:<width$}"),
        };
        cells.into_iter().enumerate().map(cell).collect::<Vec<_>>().join("  ") + "\n"
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(headings)).chain(rows).collect()
}
