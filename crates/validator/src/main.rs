//! The validator as a binary of its own, for sidecar images: `keyward validator` without the admin and its database.

use std::process::ExitCode;

use clap::Parser;
use keyward_runtime::report::report;
use keyward_runtime::telemetry::{self, LogFormat};
use keyward_validator::Options;

/// Keyward's validator (auth sidecar).
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// What to log, as info or info,keyward_validator=debug.
    #[arg(long, env = "KEYWARD_LOG", default_value = "info")]
    log: String,
    /// How log lines look. Default: text on a terminal, json elsewhere.
    #[arg(long, env = "KEYWARD_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::note(format_args!("error: {}", report(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let _logging = telemetry::start(&cli.log, cli.log_format)?;
    keyward_validator::run(cli.options.resolve()?).await
}
