//! The exposition format of Prometheus, line by line. Knows no metric.

use std::fmt::{Display, Write};

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

/// The lines above the series of a metric.
pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    write_help_line(out, name, None, None, help);
    write_type_line(out, name, None, None, kind);
}

/// The line of one series; `labels` are those of [`labels`].
pub(super) fn row(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// `one="value",other="value"`.
pub(super) fn labels<'l>(labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> String {
    let mut text = String::with_capacity(64);
    for (label, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{label}=\"{}\"", sanitize_label_value(value));
    }
    text
}
