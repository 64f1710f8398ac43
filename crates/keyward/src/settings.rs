//! `docs/settings.md`, rendered from the option types. For tests only.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, Args, Command, CommandFactory, FromArgMatches};
use serde::de::value::Error as SerdeError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use crate::Keyward;
use crate::cli::backup::{Backup, Restore};
use crate::cli::client::ClientOptions;
use crate::cli::init::Init;
use crate::{admin, serve};

/// The command that rewrites the page.
const REWRITE: &str = "WRITE_DOCS=1 cargo test -p keyward settings";

const INTRODUCTION: &str = "\
A setting is taken from its flag; else from its `KEYWARD_*` variable; else from the TOML file that `--config` names; else its
default holds. An empty variable counts as unset. A list is separated by commas in a variable, and is an array in the TOML file.
The TOML file refuses unknown names. All faults of a configuration are reported together, and the process does
not start. Every secret can be given as a file, so that no command line and no variable holds it.

| value | written as |
| --- | --- |
| ADDRESS | `host:port` with a numeric host (or `localhost`), such as `127.0.0.1:8510`; port 0 takes a free port, which the log shows. Or `unix:/path` |
| BOOL | `true` or `false`; a flag alone means `true` |
| DURATION | a number and one unit: `2500ms`, `10s`, `5m`, `24h`, `7d` |
| FILE, DIR | a path, relative to the working directory |
| URL | `http://host:port` unless the meaning adds to it |
| NAME | the name of a header or of a query parameter |
| NUMBER | a whole number |
";

const ELSEWHERE: &str = "\
## Variables without a flag

| variable | meaning |
| --- | --- |
| `KEYWARD_ALLOW_DEBUGGING` | `1`: the process may write core files, and debuggers may attach to it. Both are forbidden by default, because its memory holds secrets |
| `KEYWARD_DATA_DIR` | for the operator's commands: the directory in which they look for `root.credential` without `--credential-file` |
";

/// A section of the page.
struct Section {
    title: &'static str,
    about: &'static str,
    command: Command,
    /// Names in the TOML file. Empty: the command reads no file.
    toml: BTreeSet<&'static str>,
}

fn sections() -> [Section; 8] {
    let no_file = BTreeSet::new;
    [
        Section {
            title: "`keyward serve`",
            about: "Admin and validator in one process, on embedded SQLite.",
            command: serve::Options::augment_args(Command::new("serve")),
            toml: toml_names::<serve::Options>(),
        },
        Section {
            title: "`keyward admin`",
            about: "An admin; any number of them over one PostgreSQL. One of `--database-url` and `--database-url-file` is required.",
            command: admin::Options::augment_args(Command::new("admin")),
            toml: toml_names::<admin::Options>(),
        },
        Section {
            title: "`keyward validator`",
            about: "A validator. The binary `keyward-validator` has the same settings.",
            command: keyward_validator::Options::augment_args(Command::new("validator")),
            toml: toml_names::<keyward_validator::Options>(),
        },
        Section {
            title: "`keyward init`",
            about: "Sets up a database once. One of `--database-url` and `--database-url-file` is required. There is no TOML file.",
            command: Init::augment_args(Command::new("init")),
            toml: no_file(),
        },
        Section {
            title: "`keyward backup`",
            about: "Writes a backup of a data directory to a new file, its argument. There is no TOML file.",
            command: Backup::augment_args(Command::new("backup")),
            toml: no_file(),
        },
        Section {
            title: "`keyward restore`",
            about: "Restores the backup in a file, its argument, into an empty data directory. There is no TOML file.",
            command: Restore::augment_args(Command::new("restore")),
            toml: no_file(),
        },
        Section {
            title: "The operator's commands",
            about: "`keyward projects`, `keys`, `members`, `audit` and `sdks`. There is no TOML file.",
            command: ClientOptions::augment_args(Command::new("operator")),
            toml: no_file(),
        },
        Section {
            title: "Every command",
            about: "The operator's commands accept these and log warnings only. `keyward-validator` has them too.",
            command: Keyward::command(),
            toml: no_file(),
        },
    ]
}

fn page() -> String {
    let mut page = format!("# Settings\n\n<!-- Rendered from the option types by: {REWRITE} -->\n\n{INTRODUCTION}\n");
    for Section { title, about, command, toml } in sections() {
        let _ = writeln!(page, "## {title}\n\n{about}\n");
        page.push_str(if toml.is_empty() { "| flag | variable |" } else { "| flag | variable | TOML |" });
        page.push_str(" value | default | meaning |\n");
        page.push_str(if toml.is_empty() { "| --- | --- |" } else { "| --- | --- | --- |" });
        page.push_str(" --- | --- | --- |\n");
        for setting in settings(&command) {
            let _ = writeln!(page, "{}", row(setting, &toml));
        }
        page.push('\n');
    }
    page.push_str(ELSEWHERE);
    page
}

fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|name| name != "help" && name != "version"))
}

fn row(arg: &Arg, toml: &BTreeSet<&str>) -> String {
    let (flag, variable) = (flag(arg), arg.get_env().map(|name| name.to_string_lossy().into_owned()));
    let (meaning, default) = meaning_and_default(arg);
    let mut cells = vec![format!("`--{flag}`"), variable.map(|name| format!("`{name}`")).unwrap_or_default()];
    if !toml.is_empty() {
        let name = flag.replace('-', "_");
        cells.push(if toml.contains(name.as_str()) { format!("`{name}`") } else { String::new() });
    }
    cells.extend([value(arg), default, meaning]);
    format!("| {} |", cells.join(" | "))
}

fn flag(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

fn value(arg: &Arg) -> String {
    let allowed: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let names: Vec<_> = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    match arg.get_action() {
        clap::ArgAction::SetTrue => "BOOL".to_owned(),
        _ if names == ["BOOL"] || allowed.is_empty() => names.join(" "),
        _ => allowed.join(" or "),
    }
}

/// Splits the help text at `Default:`. The default is clap's where clap has one.
fn meaning_and_default(arg: &Arg) -> (String, String) {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.');
    let (meaning, documented) = help.split_once(" Default: ").unwrap_or((help, ""));
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let (meaning, required) = match meaning.strip_suffix(" Required") {
        Some(meaning) => (meaning, true),
        None => (meaning, arg.is_required_set()),
    };
    let default = match (required, documented) {
        (true, _) => "required".to_owned(),
        (false, "") if matches!(arg.get_action(), clap::ArgAction::SetTrue) => "`false`".to_owned(),
        (false, "") if defaults.is_empty() => "none".to_owned(),
        (false, "") => format!("`{}`", defaults.join(",")),
        (false, documented) if documented == "none" || documented.contains(' ') => documented.to_owned(),
        (false, documented) => format!("`{documented}`"),
    };
    (format!("{}.", meaning.trim_end_matches('.')), default)
}

/// Returns the names that a struct's TOML file may have: the fields of its derived `Deserialize`.
fn toml_names<T: DeserializeOwned>() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

/// A deserializer that records the names of the struct's fields, and then fails.
struct FieldNames<'a>(&'a mut BTreeSet<&'static str>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = SerdeError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, SerdeError> {
        Err(SerdeError::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, SerdeError> {
        self.0.extend(fields);
        Err(SerdeError::custom("only the names are wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Parses flags as the command line does, and ignores the environment of the test.
fn parse<T: Args + FromArgMatches>(flags: &[String]) -> T {
    let command = T::augment_args(Command::new("test").no_binary_name(true)).mut_args(|arg| arg.env(None::<&str>));
    T::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

/// Checks that the documented defaults change nothing: with each given as a flag, `resolve` returns the same.
fn assert_defaults<T: Args + FromArgMatches, C: std::fmt::Debug>(
    required: &[&str],
    resolve: impl Fn(T) -> anyhow::Result<C>,
    expected: &[&str],
) {
    let required: Vec<_> = required.iter().map(ToString::to_string).collect();
    let command = T::augment_args(Command::new("test"));
    let documented: Vec<_> = settings(&command)
        .filter_map(|arg| {
            let default = meaning_and_default(arg).1;
            Some((flag(arg).to_owned(), default.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        })
        .collect();
    let names: Vec<_> = documented.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, expected);
    // A lease that was given is not the same as none: it replaces the one in the database.
    let given = documented.iter().filter(|(name, _)| name != "lease");
    let given = given.flat_map(|(name, default)| [format!("--{name}"), default.clone()]);
    let with_defaults: Vec<_> = required.iter().cloned().chain(given).collect();
    let config = |flags: &[String]| format!("{:?}", resolve(parse(flags)).unwrap());
    assert_eq!(config(&with_defaults), config(&required));
}

#[test]
fn the_page_of_settings_is_what_the_option_types_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    if std::env::var_os("WRITE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/settings.md differs from the option types. Rewrite it with: {REWRITE}");
}

#[test]
fn the_toml_file_has_every_setting_but_its_own_path() {
    for Section { title, command, toml, .. } in sections().into_iter().filter(|section| !section.toml.is_empty()) {
        let flags: BTreeSet<_> = settings(&command).map(|arg| flag(arg).replace('-', "_")).collect();
        let toml: BTreeSet<_> = toml.into_iter().map(str::to_owned).chain(["config".to_owned()]).collect();
        assert_eq!(flags, toml, "{title}");
    }
}

#[test]
fn the_documented_defaults_are_the_real_ones() {
    let insecure = "insecure-plaintext";
    assert_defaults(
        &[],
        serve::Options::resolve,
        &[
            "data-dir",
            "admin-listen",
            "validator-listen",
            "hook-listen",
            "admin-ops-listen",
            "validator-ops-listen",
            "lease",
            "bearer-header",
            "key-header",
            "max-connections",
            "first-request-timeout",
            "message-memory-mib",
            insecure,
        ],
    );
    assert_defaults(
        &["--database-url", "sqlite:/x", "--keyring", "k"],
        admin::Options::resolve,
        &[
            "listen",
            "ops-listen",
            "public-api-url",
            "max-connections",
            "first-request-timeout",
            "message-memory-mib",
            insecure,
        ],
    );
    let credential = std::env::temp_dir().join(format!("keyward-settings-{}", std::process::id()));
    // A well-formed one, in two pieces so that no line of this file looks like a live credential.
    let text = format!("kwm_{}{}", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "02yAN1");
    let mut options = std::fs::OpenOptions::new();
    let options = std::os::unix::fs::OpenOptionsExt::mode(options.create(true).truncate(true).write(true), 0o600);
    std::io::Write::write_all(&mut options.open(&credential).unwrap(), text.as_bytes()).unwrap();
    assert_defaults(
        &["--admin", "http://127.0.0.1:8510", "--credential-file", &credential.display().to_string()],
        keyward_validator::Options::resolve,
        &[
            "listen",
            "hook-listen",
            "ops-listen",
            "bearer-header",
            "key-header",
            "drain-delay",
            "max-connections",
            "first-request-timeout",
            "message-memory-mib",
            insecure,
        ],
    );
    std::fs::remove_file(credential).unwrap();
}
