//! Tables for people, JSON for scripts.

use std::io::Write;
use std::sync::LazyLock;

use anyhow::Context;
use keyward_proto::DESCRIPTOR_SET;
use keyward_runtime::telemetry::note;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

/// Every message of the contract. One that cannot be read is empty, and every look into it fails.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).unwrap_or_default());

/// How a command answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints an answer: as JSON if that was asked for, else as `human` does.
    pub(super) fn answer<M: Message + Name>(
        self,
        answer: &M,
        human: impl FnOnce(&M) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json { line(&serde_json::to_string_pretty(&json(answer)?)?) } else { human(answer) }
    }

    /// The same for a list: a JSON array, or a table.
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

    /// Says what people may want to do next. Scripts are not told.
    pub(super) fn hint(self, text: impl std::fmt::Display) {
        if !self.json {
            note(text);
        }
    }
}

/// Prints a line to stdout. A reader that has gone, as `head` does, is an error and no panic.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to stdout")
}

/// The canonical JSON form of a message (proto3), as the JSON API and grpcurl have it.
fn json<M: Message + Name>(message: &M) -> anyhow::Result<Value> {
    let name = M::full_name();
    let descriptor = POOL.get_message_by_name(&name).with_context(|| format!("no message {name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    Ok(serde_json::to_value(message)?)
}

/// Lines with columns as wide as they need to be; the last one is not filled.
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

/// The last part of a resource name, as people say it.
pub(super) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// What the key's own commands want to be told: `server_prod --project 6666`.
pub(super) fn arguments(name: &str) -> String {
    let project = name.split('/').nth(1).unwrap_or_default();
    format!("{} --project {project}", last_part(name))
}

/// An instant in RFC 3339, to the second.
pub(super) fn instant(time: Option<prost_types::Timestamp>) -> String {
    time.map(|time| prost_types::Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use keyward_proto::admin::{Key, key::State};

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = vec![
            ["a".to_owned(), "größer".to_owned(), String::new()],
            ["bcd".to_owned(), "x".to_owned(), "y".to_owned()],
        ];
        assert_eq!(table(["N", "S", "D"], rows), ["N    S       D", "a    größer", "bcd  x       y"]);
    }

    #[test]
    fn json_is_the_canonical_form() {
        let create_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        let key =
            Key { name: "n".to_owned(), state: State::Active.into(), revision: 7, create_time, ..Default::default() };
        let expected = r#"{"name":"n","state":"STATE_ACTIVE","createTime":"1970-01-01T00:00:01Z","revision":"7"}"#;
        assert_eq!(json(&key).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }
}
