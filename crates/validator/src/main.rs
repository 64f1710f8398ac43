//! The validator as a separate binary, for sidecar images: `keyward validator` without the admin and its database.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use keyward_runtime::environment::parse;
use keyward_runtime::memory;
use keyward_runtime::report::report;
use keyward_runtime::telemetry::{self, LogFormat};
use keyward_validator::Options;
use zeroizing_alloc::ZeroAlloc;

/// Wipes memory when it is freed. Credentials and tokens pass through buffers of HTTP, TLS and protobuf that no type of ours
/// owns; without this, a freed buffer would keep its content in the heap until it is overwritten.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Keyward's validator (auth sidecar).
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Log filter, such as info or info,keyward_validator=debug.
    #[arg(long, env = "KEYWARD_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// Format of log lines. Default: text on a terminal, json elsewhere.
    #[arg(long, env = "KEYWARD_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before the command line and the environment are read, because both may hold a secret.
    let ended = match memory::protect() {
        Ok(()) => run(parse()).await,
        Err(error) => Err(error),
    };
    match ended {
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
