//! The process' own log, on standard error: one event a line, as `key=value` pairs or as JSON, with the keys that
//! Prometheus 3 writes (`time`, `level`, `source`, `msg`, then the event's own).

use crate::clock::SystemClock;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::{panic, thread};
use tidegauge_model::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to see once.
    #[default]
    Info,
    /// What works, but not as asked.
    Warn,
    /// What does not work.
    Error,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// `time=... level=INFO msg="..." key=value`
    #[default]
    Logfmt,
    /// One JSON object.
    Json,
}

/// Starts logging to standard error. A second call does nothing, so that tests can start the program twice.
pub fn init(level: LogLevel, format: LogFormat) {
    let ours = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // What the libraries below us say is of interest only where it hints at a fault.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("tidegauge", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Lines(format));
    if tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .is_ok()
    {
        log_panics();
    }
}

/// Has panics logged like all else. By itself the language writes them between the lines, in a form of its own.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let at = info.location().map_or_else(String::new, ToString::to_string);
        let (thread, text) = (thread::current(), info.payload_as_str().unwrap_or("no message"));
        let thread = thread.name().unwrap_or_default();
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => tracing::error!(panic = text, at, thread, %trace, "panic"),
            _ => tracing::error!(panic = text, at, thread, "panic"),
        }
    }));
}

/// Writes events in one of the formats.
struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let source = meta.file().map(|f| {
            let file = f.rsplit('/').next().unwrap_or(f);
            format!("{file}:{}", meta.line().unwrap_or(0))
        });
        let mut head = vec![
            ("time".to_owned(), rfc3339(SystemClock.now().millis())),
            ("level".to_owned(), level_name(*meta.level()).to_owned()),
        ];
        head.extend(source.map(|s| ("source".to_owned(), s)));
        head.push(("msg".to_owned(), fields.message));
        let pairs = head.into_iter().chain(fields.pairs);
        match self.0 {
            LogFormat::Logfmt => out.write_str(&logfmt(pairs))?,
            LogFormat::Json => out.write_str(&json(pairs))?,
        }
        out.write_char('\n')
    }
}

/// As Go's slog names them.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| format!("{t:.3}"))
}

/// `key=value` pairs; a value is quoted where it would not stand as one word.
fn logfmt(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut line = String::new();
    for (key, value) in pairs {
        if !line.is_empty() {
            line.push(' ');
        }
        let quote = value.is_empty()
            || value
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'));
        // Writing to a string cannot fail.
        let _ = match quote {
            true => write!(line, "{key}={value:?}"),
            false => write!(line, "{key}={value}"),
        };
    }
    line
}

/// One JSON object of texts, in the order given.
fn json(pairs: impl Iterator<Item = (String, String)>) -> String {
    let text = |t: String| serde_json::Value::String(t).to_string();
    let members: Vec<String> = pairs.map(|(k, v)| format!("{}:{}", text(k), text(v))).collect();
    format!("{{{}}}", members.join(","))
}

/// Collects an event's fields as text.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(String, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.pairs.push((field.name().to_owned(), text));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_quotes_only_what_needs_it() {
        let pairs = [
            ("level", "INFO"),
            ("msg", "two words"),
            ("a", ""),
            ("b", "x=1"),
            ("c", "q\""),
        ];
        let line = logfmt(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(line, r#"level=INFO msg="two words" a="" b="x=1" c="q\"""#);
    }

    #[test]
    fn json_keeps_the_order_and_escapes() {
        let pairs = [("time", "1"), ("level", "INFO"), ("a", "q\"\n")];
        let line = json(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(line, r#"{"time":"1","level":"INFO","a":"q\"\n"}"#);
    }

    #[test]
    fn time_has_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
    }
}
