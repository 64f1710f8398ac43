use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement};

use crate::connection::Transaction;
use crate::verify::report::Findings;

const TYPE: &str = "has values of a type that Keyward does not write; nothing else was checked";

/// The columns of a table, by the type of their values.
struct Table {
    name: &'static str,
    integers: &'static [&'static str],
    texts: &'static [&'static str],
    blobs: &'static [&'static str],
}

/// Every table that the check covers. A column of SQLite takes values of any type: a value of another type may read the same
/// and yet not be found by a query.
const TABLES: &[Table] = &[
    Table {
        name: "change_log",
        integers: &["revision", "time"],
        texts: &["actor", "resource", "project_id", "change"],
        blobs: &["chain"],
    },
    Table { name: "rev_counter", integers: &["id", "revision"], texts: &[], blobs: &["chain", "epoch", "mac"] },
    Table {
        name: "project",
        integers: &["create_time", "create_revision"],
        texts: &["project_id", "display_name", "creator"],
        blobs: &["uid"],
    },
    Table {
        name: "api_key",
        integers: &[
            "default_key",
            "create_time",
            "update_time",
            "deactivate_time",
            "expire_time",
            "scheduled_deactivate_time",
            "create_revision",
            "revision",
        ],
        texts: &[
            "project_id",
            "key_id",
            "state",
            "description",
            "platform",
            "last4",
            "creator",
            "deactivator",
            "scheduler",
            "replaces",
            "replaced_by",
            "annotations",
        ],
        blobs: &["uid"],
    },
    Table {
        name: "key_token",
        integers: &["digest_key_id", "generation", "not_after", "sealing_key_id", "create_time"],
        texts: &[],
        blobs: &["digest", "key_uid", "sealed"],
    },
    Table {
        name: "member",
        integers: &["create_time", "create_revision"],
        texts: &["member_id", "display_name", "creator"],
        blobs: &["uid"],
    },
    Table { name: "role_binding", integers: &[], texts: &["member_id", "role", "project_id"], blobs: &[] },
    Table {
        name: "credential",
        integers: &["digest_key_id", "create_time", "revoke_time"],
        texts: &["member_id"],
        blobs: &["digest"],
    },
    Table {
        name: "request",
        integers: &["revision", "sealing_key_id", "create_time"],
        texts: &["member_id", "method", "request_id", "resource"],
        blobs: &["payload", "sealed", "mac"],
    },
    Table { name: "history_fork", integers: &["time", "accept_time"], texts: &[], blobs: &["epoch", "former", "lost"] },
    Table { name: "withheld_token", integers: &["refused_from"], texts: &[], blobs: &["digest", "key_uid"] },
];

/// Searches for values of other types. Returns `true` if there are none. PostgreSQL enforces the types by itself.
pub(super) async fn check(tx: &Transaction, findings: &mut Findings) -> Result<bool, DbErr> {
    if tx.get_database_backend() != DatabaseBackend::Sqlite {
        return Ok(true);
    }
    let before = findings.count;
    for Table { name, integers, texts, blobs } in TABLES {
        let other = |kind: &'static str| move |column: &&str| format!("typeof({column}) NOT IN ('{kind}', 'null')");
        let mut wrong: Vec<_> = integers.iter().map(other("integer")).collect();
        wrong.extend(texts.iter().map(other("text")));
        wrong.extend(blobs.iter().map(other("blob")));
        if *name == "api_key" {
            wrong.push("default_key NOT IN (0, 1)".to_owned());
        }
        let sql = format!("SELECT 1 AS found FROM {name} WHERE {} LIMIT 1", wrong.join(" OR "));
        if tx.query_one_raw(Statement::from_string(DatabaseBackend::Sqlite, sql)).await?.is_some() {
            findings.add(format!("table {name}"), TYPE);
        }
    }
    Ok(findings.count == before)
}
