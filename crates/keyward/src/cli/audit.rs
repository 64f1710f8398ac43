use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use keyward_proto::admin::event::Type;
use keyward_proto::admin::{
    AcceptEpochRequest, Event, FieldChange, ListEventsRequest, LogHead, VerifyLogRequest, VerifyLogResponse,
};
use keyward_runtime::secret_file::{self, Holds};
use keyward_runtime::telemetry::note;

use crate::cli::client::{ClientOptions, Session, project_name};
use crate::cli::exit::Failure;
use crate::cli::output::{instant, line};
use crate::cli::prompt;

/// Commands about the change log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Lists the changes of the log with their authors, newest first.
    List {
        /// Only changes in this project. Default: all projects.
        #[arg(long)]
        project: Option<String>,
        /// Only changes that match this filter, such as 'type = KEY_DEACTIVATED AND actor = members/alice'.
        #[arg(long, default_value = "")]
        filter: String,
        /// Maximum number of changes.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Checks that the log and every row are as Keyward wrote them.
    Verify {
        /// File of the last known head, which the log must still contain. Updated after a check without findings. Store it
        /// out of reach of those who can write to the database.
        #[arg(long, value_name = "FILE")]
        head_file: Option<PathBuf>,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Accepts the history of a database that has lost changes. Withheld tokens are judged by the database alone again.
    /// Lists their keys first, and asks on a terminal.
    AcceptEpoch {
        /// The epoch of the database, shown by 'keyward audit list --filter "type = HISTORY_FORKED"'.
        epoch: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        client: ClientOptions,
    },
}

impl Audit {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { project, filter, limit, client } => {
                let parent = project.as_deref().map(project_name).unwrap_or_default();
                list(&client.connect().await?, parent, filter, limit).await
            }
            Self::Verify { head_file, client } => verify(&client.connect().await?, head_file.as_deref()).await,
            Self::AcceptEpoch { epoch, yes, client } => accept_epoch(&client.connect().await?, &epoch, yes).await,
        }
    }
}

async fn list(session: &Session, parent: String, filter: String, limit: usize) -> anyhow::Result<()> {
    let events = events(session, parent, filter, limit).await?;
    session.output.list(&events, ["REVISION", "TIME", "ACTOR", "WHAT", "RESOURCE", "CHANGES"], |event| {
        let what = event.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase();
        let (revision, time) = (event.revision.to_string(), instant(event.time));
        [revision, time, event.actor.clone(), what, event.resource.clone(), changes(event)]
    })
}

/// Returns the newest entries that match the filter, newest first, at most `limit`.
async fn events(session: &Session, parent: String, filter: String, limit: usize) -> anyhow::Result<Vec<Event>> {
    let mut request = ListEventsRequest { parent, filter, ..Default::default() };
    let mut events = Vec::new();
    while events.len() < limit {
        request.page_size = i32::try_from((limit - events.len()).min(100)).unwrap_or(100);
        let page = session.call(session.audit().list_events(request.clone())).await?;
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(events)
}

/// Renders the changes of an entry in one line.
fn changes(event: &Event) -> String {
    let changes = event.changes.iter().map(|FieldChange { field, before, after }| match (&**before, &**after) {
        ("", after) => format!("{field}: {after}"),
        (before, "") => format!("{field}: {before} -> none"),
        (before, after) => format!("{field}: {before} -> {after}"),
    });
    changes.collect::<Vec<_>>().join("; ")
}

async fn verify(session: &Session, head_file: Option<&Path>) -> anyhow::Result<()> {
    let known_head = head_file.map(read_head).transpose()?.flatten();
    let known = known_head.is_some();
    let found = session.call(session.audit().verify_log(VerifyLogRequest { known_head })).await?;
    session.output.answer(&found, print_findings)?;
    if !found.intact {
        return Err(Failure::NotIntact(found.finding_count).into());
    }
    if let (Some(file), Some(head)) = (head_file, &found.head) {
        if !known {
            session.output.hint(format!("no earlier head was known; this one is now in {}", file.display()));
        }
        write_head(file, head).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

async fn accept_epoch(session: &Session, epoch: &str, yes: bool) -> anyhow::Result<()> {
    // Accepts `epochs/ID`, as the log shows it, and the bare id.
    let epoch = epoch.strip_prefix("epochs/").unwrap_or(epoch).to_owned();
    let keys = withheld_keys(session).await?;
    note(released(&keys));
    for key in &keys {
        note(format_args!("  {key}"));
    }
    if !yes && !prompt::confirm(&format!("Accept epoch {epoch}?"))? {
        anyhow::bail!("not accepted; nothing was changed");
    }
    let answer = session.call(session.audit().accept_epoch(AcceptEpochRequest { epoch })).await?;
    session.output.answer(&answer, |answer| line(&format!("accepted; tokens released: {}", answer.released)))
}

/// Returns the keys whose tokens are withheld, by the log: the keys of each TOKENS_WITHHELD entry since an owner accepted an epoch.
/// The log has them all, also keys of which only an older token is withheld.
async fn withheld_keys(session: &Session) -> anyhow::Result<BTreeSet<String>> {
    let of = |kind: Type| format!("type = {}", kind.as_str_name());
    let accepted = events(session, String::new(), of(Type::EpochAccepted), 1).await?;
    let since = accepted.first().map_or(0, |event| event.revision);
    let withheld = events(session, String::new(), of(Type::TokensWithheld), usize::MAX).await?;
    Ok(withheld.into_iter().take_while(|event| event.revision > since).flat_map(|event| event.related).collect())
}

fn released(keys: &BTreeSet<String>) -> String {
    match keys.len() {
        0 => "no admin withholds a token; validators that saw one denied stop denying it".to_owned(),
        count => format!(
            "tokens of these keys are withheld, {count} in all; validators will accept those that the database has as valid:"
        ),
    }
}

fn print_findings(found: &VerifyLogResponse) -> anyhow::Result<()> {
    for finding in &found.findings {
        line(&format!("{}: {}", finding.place, finding.problem))?;
    }
    let head = found.head.clone().unwrap_or_default();
    if found.intact {
        line(&format!("intact: {} entries up to revision {}, {} rows", found.entries, head.revision, found.rows))?;
    }
    Ok(())
}

/// Writes a new file and renames it, so that a crash leaves either the old head or the new one.
fn write_head(file: &Path, head: &LogHead) -> std::io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, format!("{} {}\n", head.revision, head.chain))?;
    std::fs::rename(&new, file)
}

/// Reads a head. Returns `None` if the file does not exist.
fn read_head(file: &Path) -> anyhow::Result<Option<LogHead>> {
    let text = match secret_file::read_logged(file, Holds::Settings) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut words = text.split_whitespace();
    let revision = words.next().and_then(|word| word.parse().ok());
    let (Some(revision), Some(chain)) = (revision, words.next()) else {
        anyhow::bail!("{} does not hold a head: a revision and a chain value", file.display());
    };
    Ok(Some(LogHead { revision, chain: chain.to_owned() }))
}
