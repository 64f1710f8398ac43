//! Logs: to stderr, as text on a terminal and as JSON elsewhere.
//!
//! Lines pass through a bounded queue to a thread that writes them, so neither a full disk nor a reader that stopped reading
//! ends or blocks a server. A line that cannot be written is dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Capacity of the queue, in lines. Further lines are dropped.
const QUEUE: usize = 8_192;

/// Number of lines that could not be written to stderr.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Number of lines that were dropped because the queue was full.
static UNQUEUED: OnceLock<ErrorCounter> = OnceLock::new();

/// Format of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text per event.
    Text,
    /// A JSON object per event.
    Json,
}

/// Guard of the log. When it is dropped, at the end of the process, the queued lines are written, for at most a second.
#[derive(Debug)]
pub struct Logging {
    _worker: WorkerGuard,
}

/// Starts logging. `filter` has directives of tracing-subscriber's `EnvFilter`, such as `info,keyward_admin=debug`. The default
/// format is text on a terminal and JSON elsewhere.
///
/// # Errors
/// A directive is malformed, or logging was started before.
pub fn start(filter: &str, format: Option<LogFormat>) -> anyhow::Result<Logging> {
    let filter = EnvFilter::try_new(filter).map_err(|e| anyhow::anyhow!("log filter {filter:?}: {e}"))?;
    let terminal = io::stderr().is_terminal();
    let (lines, worker) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log").finish(Stderr);
    let _ = UNQUEUED.set(lines.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(terminal)
        // It would report errors with `eprintln!`, which panics if stderr cannot be written to.
        .log_internal_errors(false);
    let started = match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))?;
    Ok(Logging { _worker: worker })
}

/// Returns how many log lines this process has dropped.
pub fn lost_lines() -> u64 {
    let unqueued = UNQUEUED.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + u64::try_from(unqueued).unwrap_or(u64::MAX)
}

/// Registers the metric `log_lines_lost_total`.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(LostLines));
}

/// Writes one line to stderr, for the operator who started the command. A failure is ignored: the work of the command and its
/// exit code must not depend on stderr.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes lines to stderr, and counts those that could not be written.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().lock().write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct LostLines;

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(lost_lines());
        let help = "Log lines that could not be written";
        let metric = encoder.encode_descriptor("log_lines_lost", help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}
