//! Output of commands: tables for people, JSON for scripts.

use std::io::Write;
use std::sync::LazyLock;

use anyhow::Context;
use keyward_proto::DESCRIPTOR_SET;
use keyward_runtime::telemetry::note;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

/// Every message of the contract. If the descriptors cannot be decoded the pool is empty, and `json` returns an error.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).unwrap_or_default());

/// The output format of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints an answer: as JSON with `--json`, else with `human`.
    pub(super) fn answer<M: Message + Name>(
        self,
        answer: &M,
        human: impl FnOnce(&M) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json { line(&serde_json::to_string_pretty(&json(answer)?)?) } else { human(answer) }
    }

    /// Prints a list: as a JSON array with `--json`, else as a table.
    pub(super) fn list<M: Message + Name, const N: usize>(
        self,
        items: &[M],
        head: [&str; N],
        row: impl Fn(&M) -> [String; N],
    ) -> anyhow::Result<()> {
        if self.json {
            let items = items.iter().map(json).collect::<anyhow::Result<Vec<_>>>()?;
            return line(&serde_json::to_string_pretty(&Value::Array(items))?);
        }
        for line_of_table in table(head, items.iter().map(row).collect()) {
            line(&line_of_table)?;
        }
        Ok(())
    }

    /// Prints a hint about the next step to stderr, except with `--json`.
    pub(super) fn hint(self, text: impl std::fmt::Display) {
        if !self.json {
            note(text);
        }
    }
}

/// Prints a line to stdout. A closed pipe, such as after `head`, is an error and no panic.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to stdout")
}

/// Returns the canonical JSON form of a message (proto3), which the JSON API and grpcurl use too.
fn json<M: Message + Name>(message: &M) -> anyhow::Result<Value> {
    let name = M::full_name();
    let descriptor = POOL.get_message_by_name(&name).with_context(|| format!("no message {name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    Ok(serde_json::to_value(message)?)
}

/// Renders a table. Columns have the width of their longest cell; the last one is not padded.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> Vec<String> {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(width).collect();
    let fill = |cells: &[String; N]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(fill).collect()
}

/// Returns the last segment of a resource name, such as `server_prod`.
pub(super) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// Returns the arguments that name a key on the command line: `server_prod --project 6666`.
pub(super) fn arguments(name: &str) -> String {
    let project = name.split('/').nth(1).unwrap_or_default();
    format!("{} --project {project}", last_part(name))
}

/// Renders a time in RFC 3339, to the second. Empty if absent.
pub(super) fn instant(time: Option<prost_types::Timestamp>) -> String {
    time.map(|time| prost_types::Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use keyward_proto::admin::{Key, key::State};

    use super::*;

    #[test]
    fn columns_have_the_width_of_their_longest_cell() {
        let rows = vec![
            ["a".to_owned(), "größer".to_owned(), String::new()],
            ["bcd".to_owned(), "x".to_owned(), "y".to_owned()],
        ];
        assert_eq!(table(["N", "S", "D"], rows), ["N    S       D", "a    größer", "bcd  x       y"]);
    }

    #[test]
    fn json_is_the_canonical_proto3_form() {
        let create_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        let key =
            Key { name: "n".to_owned(), state: State::Active.into(), revision: 7, create_time, ..Default::default() };
        let expected = r#"{"name":"n","state":"STATE_ACTIVE","createTime":"1970-01-01T00:00:01Z","revision":"7"}"#;
        assert_eq!(json(&key).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }
}
