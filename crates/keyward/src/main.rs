#![doc = include_str!("../README.md")]

mod admin;
mod cli;
mod defaults;
mod serve;
#[cfg(test)]
mod settings;

use std::alloc::System;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keyward_runtime::environment::parse;
use keyward_runtime::memory;
use keyward_runtime::report::report;
use keyward_runtime::telemetry::{self, LogFormat};
use zeroizing_alloc::ZeroAlloc;

/// Wipes memory when it is freed. Credentials and tokens pass through buffers of HTTP, TLS and protobuf that no type of ours
/// owns; without this, a freed buffer would keep its content in the heap until it is overwritten.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// API keys that work the moment they are created and stop working the moment you deactivate them.
#[derive(Debug, Parser)]
#[command(version, after_help = cli::exit::HELP)]
struct Keyward {
    #[command(subcommand)]
    command: Option<Command>,
    /// Log filter, such as info or info,keyward_admin=debug.
    #[arg(long, env = "KEYWARD_LOG", value_name = "FILTER", default_value = "info", global = true)]
    log: String,
    /// Format of log lines. Default: text on a terminal, json elsewhere.
    #[arg(long, env = "KEYWARD_LOG_FORMAT", global = true)]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs admin and validator in one process on embedded SQLite. The default command.
    Serve(serve::Options),
    /// Creates what the admins of one database share: schema, keyring and root credential. Running it again changes nothing.
    Init(cli::init::Init),
    Backup(cli::backup::Backup),
    Restore(cli::backup::Restore),
    /// Runs an admin: the key-admin service alone, any number of them over one PostgreSQL.
    Admin(admin::Options),
    /// Runs a validator (auth sidecar) that is fed by admins.
    Validator(keyward_validator::Options),
    /// Creates and shows projects.
    #[command(subcommand)]
    Projects(cli::projects::Projects),
    /// Creates, shows, rotates and deactivates keys.
    #[command(subcommand)]
    Keys(cli::keys::Keys),
    /// Manages members: the people and services that call the admin API.
    #[command(subcommand)]
    Members(cli::members::Members),
    /// Shows and checks the change log.
    #[command(subcommand)]
    Audit(cli::audit::Audit),
    /// Shows setup snippets for SDKs and tools.
    #[command(subcommand)]
    Sdks(cli::sdks::Sdks),
    /// Prints the completion script of a shell.
    Completions(cli::completions::Completions),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before the command line and the environment are read, because both may hold a secret.
    let ended = match memory::protect() {
        Ok(()) => Box::pin(run(parse())).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::note(format_args!("error: {}", report(&error)));
            cli::exit::code(&error)
        }
    }
}

async fn run(keyward: Keyward) -> anyhow::Result<()> {
    let command = keyward.command.unwrap_or_else(|| Command::Serve(serve::Options::default_from_env()));
    let _logging = match &command {
        Command::Serve(_) | Command::Admin(_) | Command::Validator(_) => {
            telemetry::start(&keyward.log, keyward.log_format)?
        }
        // An operator wants the result; of the log, only what needs action.
        _ => telemetry::start("warn", Some(LogFormat::Text))?,
    };
    match command {
        Command::Serve(options) => Box::pin(serve::run(options.resolve()?)).await,
        Command::Init(init) => Box::pin(init.run()).await,
        Command::Backup(backup) => Box::pin(backup.run()).await,
        Command::Restore(restore) => Box::pin(restore.run()).await,
        Command::Admin(options) => Box::pin(admin::run(options.resolve()?)).await,
        Command::Validator(options) => Box::pin(keyward_validator::run(options.resolve()?)).await,
        Command::Projects(command) => command.run().await,
        Command::Keys(command) => command.run().await,
        Command::Members(command) => command.run().await,
        Command::Audit(command) => command.run().await,
        Command::Sdks(command) => command.run().await,
        Command::Completions(command) => command.run::<Keyward>(),
    }
}
