//! VerifyLog: changes of the database outside the store are found.

use std::time::Duration;

use keyward_domain::{EventFilter, KeyFilter, Permission, Reason, Revision, Role};
use keyward_store::{Call, CreatedKey, IssuedSecret, LogHead, Store, Verification};
use keyward_tests::{report, size};
use keyward_token::DigestKey;

use super::database::{Database, FINGERPRINT, Plain};
use super::forks::fork;
use super::rights::is_found;
use super::{
    REQUEST, create_key, create_member, create_project, deactivate_key, digest, head, key_draft, key_name, key_name_in,
    large_on_durable, member_id, on_all, on_durable, on_platform, on_project, refused, sealed, secret, to_create_key,
    to_create_member, to_deactivate_key, under,
};

on_all! {
    a_log_written_by_the_store_verifies,
    the_log_must_contain_the_given_head,
}

large_on_durable! {
    every_random_tampering_is_found,
    every_random_forgery_is_found_or_without_effect,
}

on_durable! {
    a_search_for_rare_events_is_bounded_per_call_and_complete,
    a_complete_rewind_is_found_only_with_a_given_head,
    tampering_is_found_after_keyward_changes_the_row_again,
    nothing_is_written_on_a_forged_head,
    migration_signs_an_old_head_only_with_the_right_keyring,
}

/// The number of manipulations.
const TAMPERINGS: usize = size::TAMPERINGS;

/// A table and its columns, with the kind of their values.
type Table = (&'static str, &'static [(&'static str, Kind)]);

/// The tables and columns that the log covers.
const COVERED: &[Table] = &[
    (
        "change_log",
        &[
            ("revision", Kind::Number),
            ("chain", Kind::Bytes),
            ("time", Kind::Number),
            ("actor", Kind::Text),
            ("resource", Kind::Text),
            ("change", Kind::Text),
            ("project_id", Kind::Text),
        ],
    ),
    ("rev_counter", &[("revision", Kind::Number), ("chain", Kind::Bytes), ("epoch", Kind::Uuid), ("mac", Kind::Bytes)]),
    (
        "project",
        &[
            ("project_id", Kind::Text),
            ("uid", Kind::Uuid),
            ("display_name", Kind::Text),
            ("creator", Kind::Text),
            ("create_time", Kind::Number),
            ("create_revision", Kind::Number),
        ],
    ),
    (
        "api_key",
        &[
            ("uid", Kind::Uuid),
            ("project_id", Kind::Text),
            ("key_id", Kind::Text),
            ("state", Kind::State),
            ("default_key", Kind::Boolean),
            ("description", Kind::Text),
            ("platform", Kind::Text),
            ("last4", Kind::Text),
            ("creator", Kind::Text),
            ("create_time", Kind::Number),
            ("update_time", Kind::Number),
            ("deactivator", Kind::Text),
            ("deactivate_time", Kind::Number),
            ("expire_time", Kind::Number),
            ("scheduled_deactivate_time", Kind::Number),
            ("scheduler", Kind::Text),
            ("replaces", Kind::Text),
            ("replaced_by", Kind::Text),
            ("annotations", Kind::Text),
            ("create_revision", Kind::Number),
            ("revision", Kind::Number),
        ],
    ),
    (
        "key_token",
        &[
            ("digest", Kind::Bytes),
            ("digest_key_id", Kind::Number),
            ("key_uid", Kind::Uuid),
            ("generation", Kind::Number),
            ("not_after", Kind::Number),
            ("sealed", Kind::Bytes),
            ("sealing_key_id", Kind::Number),
            ("create_time", Kind::Number),
        ],
    ),
    (
        "member",
        &[
            ("member_id", Kind::Text),
            ("uid", Kind::Uuid),
            ("display_name", Kind::Text),
            ("creator", Kind::Text),
            ("create_time", Kind::Number),
            ("create_revision", Kind::Number),
        ],
    ),
    ("role_binding", &[("member_id", Kind::Text), ("role", Kind::Role), ("project_id", Kind::Text)]),
    (
        "credential",
        &[
            ("digest", Kind::Bytes),
            ("digest_key_id", Kind::Number),
            ("member_id", Kind::Text),
            ("create_time", Kind::Number),
            ("revoke_time", Kind::Number),
        ],
    ),
    (
        "history_fork",
        &[
            ("epoch", Kind::Uuid),
            ("former", Kind::Uuid),
            ("lost", Kind::Uuid),
            ("time", Kind::Number),
            ("accept_time", Kind::Number),
        ],
    ),
    ("withheld_token", &[("digest", Kind::Bytes), ("key_uid", Kind::Uuid), ("refused_from", Kind::Number)]),
];

/// Remembered requests, which the log does not cover and whose rows have a MAC.
const REMEMBERED: Table = (
    "request",
    &[
        ("member_id", Kind::Text),
        ("method", Kind::Text),
        ("request_id", Kind::Text),
        ("payload", Kind::Bytes),
        ("resource", Kind::Text),
        ("revision", Kind::Number),
        ("sealed", Kind::Bytes),
        ("sealing_key_id", Kind::Number),
        ("create_time", Kind::Number),
        ("mac", Kind::Bytes),
    ],
);

/// The tables that decide who may do what, and which secret a retry gets.
const DECIDING: &[&str] = &["change_log", "member", "role_binding", "credential", "request", "key_token"];

/// The tables whose forged rows are put back after the attack.
const TAKEN_BACK: &[&str] = &["project", "member", "role_binding", "credential", "request", "api_key", "key_token"];

/// Every table of the attacker.
fn tables() -> Vec<Table> {
    COVERED.iter().copied().chain([REMEMBERED]).collect()
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Bytes,
    Uuid,
    Boolean,
    State,
    Role,
}

/// A database with changes of every kind.
async fn populated(db: &Database) -> Store {
    let store = db.started().await;
    create_project(&store, "7777").await;
    let change = |permission| Call { permission, ..to_create_member("root") };
    create_member(&store, "alice", &[on_project(Role::Editor, "6666"), on_platform(Role::Support)]).await;
    create_member(&store, "bob", &[]).await;
    let update = change(Permission::MemberUpdate);
    store.grant_role(&update, &member_id("bob"), &on_project(Role::Viewer, "7777")).await.unwrap();
    store.revoke_role(&update, &member_id("alice"), &on_platform(Role::Support)).await.unwrap();
    let issued = store.issue_credential(&update, &member_id("bob"), &secret("bob 2")).await.unwrap();
    store.issue_credential(&update, &member_id("bob"), &secret("bob 3")).await.unwrap();
    store.revoke_credential(&update, &issued.name).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        create_key(&store, &key_name(name)).await;
    }
    deactivate_key(&store, &key_name("a")).await;
    deactivate_key(&store, &key_name("b")).await;
    let on_key = |permission| Call { permission, ..to_create_key("root", "6666") };
    store.activate_key(&on_key(Permission::KeyActivate), &key_name("b"), "").await.unwrap();
    let epoch = fork(&store, &["b", "c", "d"]).await;
    store.accept_epoch(&change(Permission::EpochAccept), epoch).await.unwrap();
    fork(&store, &["c", "d"]).await;
    store.reveal_token(&on_key(Permission::KeyReveal), &key_name("b")).await.unwrap();
    store
}

async fn verified(store: &Store) -> Verification {
    store.verify_log(None).await.unwrap()
}

#[track_caller]
fn intact(found: &Verification) {
    assert_eq!((found.finding_count, &found.findings[..]), (0, &[][..]));
}

async fn a_log_written_by_the_store_verifies(db: &Database) {
    let store = populated(db).await;
    let found = verified(&store).await;
    intact(&found);
    assert_eq!((found.head.revision, found.entries), (head(&store).await, head(&store).await.0.unsigned_abs()));
    // Projects 2, keys 6, their tokens 6, members 3, roles 3, credentials 5, forks 2, withheld tokens 2.
    assert_eq!(found.rows, 29);
}

async fn the_log_must_contain_the_given_head(db: &Database) {
    let store = populated(db).await;
    let noted = verified(&store).await.head;
    deactivate_key(&store, &key_name("c")).await;
    intact(&store.verify_log(Some(noted)).await.unwrap());
    for wrong in [
        LogHead { chain: [7; 32], ..noted },
        LogHead { revision: Revision(1), ..noted },
        LogHead { revision: Revision(1_000), ..noted },
    ] {
        let found = store.verify_log(Some(wrong)).await.unwrap();
        assert_eq!(found.finding_count, 1, "{:?}", found.findings);
    }
}

/// Pseudo-random numbers, the same in each run.
struct Dice(u64);

impl Dice {
    /// SplitMix64.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len())]
    }
}

/// An attacker who can write to the database and knows everything but the keyring.
struct Tamperer<'a> {
    plain: Plain,
    sqlite: bool,
    dice: &'a mut Dice,
    /// The tables that are tampered with.
    among: Vec<Table>,
}

impl<'a> Tamperer<'a> {
    /// Keeps a copy of every table.
    async fn new(db: &Database, dice: &'a mut Dice, among: Vec<Table>) -> Self {
        let mut plain = db.plain().await;
        let sqlite = matches!(plain, Plain::Sqlite(_));
        let free = if sqlite { "PRAGMA foreign_keys = OFF" } else { "SET session_replication_role = replica" };
        plain.run(free).await;
        for (table, _) in tables() {
            plain.run(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
        }
        Self { plain, sqlite, dice, among }
    }

    async fn restore(&mut self) {
        for (table, _) in tables() {
            self.plain.run(&format!("DELETE FROM {table}")).await;
            self.plain.run(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
        }
    }

    /// Takes the tampering with rows back. The log stays as it is.
    async fn take_back(&mut self) {
        for table in TAKEN_BACK {
            self.plain.run(&format!("DELETE FROM {table}")).await;
            self.plain.run(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
        }
    }

    /// Returns `true` if the log or its head differs from the copy.
    async fn log_differs(&mut self) -> bool {
        for table in ["change_log", "rev_counter"] {
            if self.table_differs(table).await {
                return true;
            }
        }
        false
    }

    /// Takes the entries that Keyward has added to the log over into the copy.
    async fn keep_log(&mut self) {
        let new = "WHERE revision > (SELECT max(revision) FROM kept_change_log)";
        self.plain.run(&format!("INSERT INTO kept_change_log SELECT * FROM change_log {new}")).await;
        self.plain.run("DELETE FROM kept_rev_counter").await;
        self.plain.run("INSERT INTO kept_rev_counter SELECT * FROM rev_counter").await;
    }

    /// Tampers at random, and every other time with a change that gives mallory a right or a token. Returns the SQL.
    async fn forge(&mut self) -> String {
        let role = *self.dice.of(&["('mallory', 'owner', '')", "('mallory', 'editor', '6666')"]);
        let sql = match self.dice.roll(12) {
            0 => format!("INSERT INTO role_binding (member_id, role, project_id) VALUES {role}"),
            1 => "UPDATE credential SET member_id = 'root' WHERE member_id = 'mallory'".to_owned(),
            2 => "UPDATE credential SET revoke_time = NULL, member_id = 'root' WHERE revoke_time IS NOT NULL".to_owned(),
            3 => "UPDATE request SET sealed = (SELECT sealed FROM key_token WHERE sealed IS NOT NULL ORDER BY create_time LIMIT 1)".to_owned(),
            4 => "UPDATE api_key SET state = 'active', deactivator = NULL, deactivate_time = NULL WHERE key_id = 'ended'".to_owned(),
            5 => "UPDATE api_key SET project_id = '7777' WHERE key_id = 'b'".to_owned(),
            _ => return self.tamper().await,
        };
        self.plain.run(&sql).await;
        sql
    }

    /// Makes a random change that the database accepts and that has an effect. Returns the SQL.
    async fn tamper(&mut self) -> String {
        loop {
            let sql = match self.dice.roll(11) {
                10 if self.sqlite => self.other_type(),
                0..=4 => self.another_value(),
                5 => self.deletion(),
                6 => self.swap(),
                7 => self.insertion(),
                8 => self.truncation().await,
                _ => self.value_of_another_row(),
            };
            // A change that the database rejects, or that has no effect, does not count.
            let done = self.plain.try_run(&sql).await;
            if done.is_err() {
                let _ = self.plain.try_run("ROLLBACK").await;
                self.restore().await;
            } else if self.differs().await {
                return sql;
            }
        }
    }

    /// Returns `true` if any table differs from its copy.
    async fn differs(&mut self) -> bool {
        for (table, _) in tables() {
            if self.table_differs(table).await {
                return true;
            }
        }
        false
    }

    async fn table_differs(&mut self, table: &str) -> bool {
        let (_, columns) = tables().into_iter().find(|(name, _)| *name == table).unwrap();
        let columns: Vec<_> = columns.iter().map(|(column, _)| *column).collect();
        let columns = columns.join(", ");
        let one_way = format!("SELECT {columns} FROM {table} EXCEPT SELECT {columns} FROM kept_{table}");
        let other_way = format!("SELECT {columns} FROM kept_{table} EXCEPT SELECT {columns} FROM {table}");
        for difference in [one_way, other_way] {
            if self.plain.number(&format!("SELECT count(*) FROM ({difference}) AS difference")).await > 0 {
                return true;
            }
        }
        false
    }

    fn table(&mut self) -> (&'static str, &'static [(&'static str, Kind)]) {
        self.among[self.dice.roll(self.among.len())]
    }

    /// The condition for one random row, by its physical address.
    fn row(&mut self, table: &str) -> String {
        let address = if self.sqlite { "rowid" } else { "ctid" };
        let n = self.dice.roll(30);
        let count = format!("(SELECT count(*) FROM {table})");
        format!("{address} = (SELECT {address} FROM {table} ORDER BY {address} LIMIT 1 OFFSET {n} % {count})")
    }

    fn another_value(&mut self) -> String {
        let (table, columns) = self.table();
        let (column, kind) = *self.dice.of(columns);
        let n = self.dice.roll(1_000) + 1;
        let value = match kind {
            Kind::Number => format!("coalesce({column}, 0) + {n}"),
            Kind::Text => format!("coalesce({column}, '') || 'x'"),
            Kind::Bytes if self.sqlite => format!("randomblob({})", 32 + n % 2),
            Kind::Bytes => format!("decode(md5('{n}') || md5('{n}x'), 'hex')"),
            Kind::Uuid if self.sqlite => "randomblob(16)".to_owned(),
            Kind::Uuid => "gen_random_uuid()".to_owned(),
            Kind::Boolean => format!("NOT {column}"),
            Kind::State => format!("CASE {column} WHEN 'active' THEN 'deactivated' ELSE 'active' END"),
            Kind::Role => format!("CASE {column} WHEN 'editor' THEN 'viewer' ELSE 'editor' END"),
        };
        // Sometimes NULL.
        let value = if self.dice.roll(5) == 0 { "NULL".to_owned() } else { value };
        format!("UPDATE {table} SET {column} = {value} WHERE {}", self.row(table))
    }

    fn value_of_another_row(&mut self) -> String {
        let (table, columns) = self.table();
        let (column, _) = *self.dice.of(columns);
        let (one, other) = (self.row(table), self.row(table));
        format!("UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE {other}) WHERE {one}")
    }

    /// The same value with another type. SQLite accepts it, but queries no longer find it.
    fn other_type(&mut self) -> String {
        let (table, columns) = self.table();
        let (column, kind) = *self.dice.of(columns);
        let value = match kind {
            Kind::Number => format!("CAST({column} AS BLOB)"),
            Kind::Bytes | Kind::Uuid => format!("CAST({column} AS TEXT)"),
            Kind::Boolean => "2".to_owned(),
            Kind::Text | Kind::State | Kind::Role => format!("CAST({column} AS BLOB)"),
        };
        format!("UPDATE {table} SET {column} = {value} WHERE {}", self.row(table))
    }

    fn deletion(&mut self) -> String {
        let (table, _) = self.table();
        let table = match table {
            // Without a head there is nothing to compare with, and Keyward does not work. A remembered request may be
            // deleted: a retry is then a new request.
            "rev_counter" | "request" => "change_log",
            table => table,
        };
        format!("DELETE FROM {table} WHERE {}", self.row(table))
    }

    /// Two entries of the log swap their revisions.
    fn swap(&mut self) -> String {
        let (one, other) = (self.dice.roll(15) + 2, self.dice.roll(15) + 2);
        format!(
            "UPDATE change_log SET revision = -1 WHERE revision = {one}; \
             UPDATE change_log SET revision = {one} WHERE revision = {other}; \
             UPDATE change_log SET revision = {other} WHERE revision = -1"
        )
    }

    /// Deletes the end of the log, and sometimes sets the head back with it.
    async fn truncation(&mut self) -> String {
        let newest = self.plain.number("SELECT revision FROM rev_counter").await;
        let last = newest - 1 - i64::try_from(self.dice.roll(5)).unwrap();
        let cut = format!("DELETE FROM change_log WHERE revision > {last}");
        if self.dice.roll(2) == 0 {
            return cut;
        }
        let chain = format!("(SELECT chain FROM change_log WHERE revision = {last})");
        format!("{cut}; UPDATE rev_counter SET revision = {last}, chain = {chain}")
    }

    /// Inserts a row similar to an existing one.
    fn insertion(&mut self) -> String {
        let uid = if self.sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
        let bytes = if self.sqlite { "randomblob(32)" } else { "decode(md5('a') || md5('b'), 'hex')" };
        let copy = |table: &str, columns: &str, values: &str, row: String| {
            format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE {row}")
        };
        match self.dice.roll(5) {
            0 => {
                let columns = "revision, chain, time, actor, resource, change, project_id";
                let values =
                    "(SELECT max(revision) + 1 FROM change_log), chain, time, actor, resource, change, project_id";
                copy("change_log", columns, values, self.row("change_log"))
            }
            1 => {
                let columns = "project_id, uid, display_name, creator, create_time, create_revision";
                let values = format!("project_id || '9', {uid}, display_name, creator, create_time, create_revision");
                copy("project", columns, &values, self.row("project"))
            }
            2 => {
                let columns = "digest, digest_key_id, member_id, create_time, revoke_time";
                let values = format!("{bytes}, digest_key_id, member_id, create_time, revoke_time");
                copy("credential", columns, &values, self.row("credential"))
            }
            3 => {
                let role = *self.dice.of(&["owner", "support", "validator"]);
                copy(
                    "role_binding",
                    "member_id, role, project_id",
                    &format!("member_id, '{role}', ''"),
                    self.row("role_binding"),
                )
            }
            _ => {
                let columns = "digest, digest_key_id, key_uid, generation, create_time";
                let values = format!("{bytes}, digest_key_id, key_uid, generation + 1, create_time");
                copy("key_token", columns, &values, self.row("key_token"))
            }
        }
    }
}

async fn every_random_tampering_is_found(db: &Database) {
    let store = populated(db).await;
    remember(&store).await;
    let mut dice = Dice(20_261_124);
    let mut tamperer = Tamperer::new(db, &mut dice, tables()).await;
    let (mut of_requests, begun) = (0, std::time::Instant::now());
    for n in 0..TAMPERINGS {
        let sql = tamperer.tamper().await;
        let found = verified(&store).await;
        assert!(found.finding_count > 0, "tampering {n} is not found: {sql}");
        assert!(!found.findings.is_empty());
        of_requests += usize::from(sql.starts_with("UPDATE request"));
        tamperer.restore().await;
        if n % 100 == 0 {
            intact(&verified(&store).await);
        }
    }
    intact(&verified(&store).await);
    let (name, took) = (db.name(), begun.elapsed());
    report::line(&format!(
        "{TAMPERINGS} tamperings on {name}, {of_requests} of them with requests: all found, in {took:?}"
    ));
}

/// The request that creates the key `name`, by root with its credential.
fn remembered(name: &str, id: &str) -> Call {
    under(Call { credential: Some(digest("root")), ..to_create_key("root", "6666") }, "CreateKey", id, name.len() as u8)
}

/// The ids of the remembered requests, by the names of their keys.
const REMEMBERED_AS: [(&str, &str); 2] = [("remembered", REQUEST), ("ended", "9a1f6f0e-51a5-4d0b-8e0c-7d3c1f0b2a55")];

/// Two requests whose answers a forged row could change. The second one's key is deactivated.
async fn remember(store: &Store) {
    for (name, id) in REMEMBERED_AS {
        let draft = key_draft(key_name(name));
        store.create_key(&remembered(name, id), &draft, &secret(name)).await.unwrap();
    }
    deactivate_key(store, &key_name("ended")).await;
}

/// An act that was committed and that its member had no right to.
struct Act {
    revision: Revision,
    /// A part of the problem that must be found.
    problem: &'static str,
}

/// What an attacker tries once the database is tampered with: acts with the credential of mallory, who may only edit 7777, in
/// the name of mallory and of root; acts with a revoked credential; and retries of requests. Returns what was committed, and
/// panics if a retry returns a token that is not its own.
async fn attack(store: &Store, round: usize) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut note = async |is_committed: bool, problem| {
        if is_committed {
            acts.push(Act { revision: head(store).await, problem });
        }
    };
    let reveal = |actor, project, credential| Call {
        permission: Permission::KeyReveal,
        credential: Some(digest(credential)),
        ..to_create_key(actor, project)
    };
    for actor in ["mallory", "root"] {
        let revealed = store.reveal_token(&reveal(actor, "6666", "mallory"), &key_name("c")).await;
        note(revealed.is_ok(), "right").await;
        let by_mallory = Call { credential: Some(digest("mallory")), ..to_create_member(actor) };
        let update = Call { permission: Permission::MemberUpdate, ..by_mallory };
        let stolen = secret(&format!("stolen {actor} {round}"));
        note(store.issue_credential(&update, &member_id("root"), &stolen).await.is_ok(), "right").await;
    }
    note(store.reveal_token(&reveal("root", "6666", "bob 2"), &key_name("c")).await.is_ok(), "right").await;
    // Only a key that was moved has this name.
    let moved = store.reveal_token(&reveal("mallory", "7777", "mallory"), &key_name_in("7777", "b")).await;
    note(moved.is_ok(), "does not follow").await;
    for (name, id) in REMEMBERED_AS {
        let retry = store.create_key(&remembered(name, id), &key_draft(key_name(name)), &secret("again")).await;
        if let Ok(CreatedKey { secret: IssuedSecret::Replayed(found), .. }) = retry {
            assert_eq!(found, sealed(name), "the retry returns another token");
            note(name == "ended", "does not follow").await;
        }
    }
    acts
}

/// A writer without the keyring tampers with the rows that decide who may do what and which secret a retry gets, attacks, and
/// takes the tampering back. Every act that was committed is a finding about its own entry, and a retry never returns another
/// token. Without an act, nothing is left.
async fn every_random_forgery_is_found_or_without_effect(db: &Database) {
    let mut store = populated(db).await;
    create_member(&store, "mallory", &[on_project(Role::Editor, "7777")]).await;
    remember(&store).await;
    let mut dice = Dice(20_261_128);
    let among = tables().into_iter().filter(|(table, _)| DECIDING.contains(table)).collect();
    let mut tamperer = Tamperer::new(db, &mut dice, among).await;
    let begun = std::time::Instant::now();
    let (mut count, mut without_effect) = (0, 0);
    for n in 0..TAMPERINGS {
        let before = head(&store).await;
        let sql = tamperer.forge().await;
        let is_log_forged = tamperer.log_differs().await;
        let acts = attack(&store, n).await;
        tamperer.take_back().await;
        let found = verified(&store).await;
        let is_intact = found.finding_count == 0;
        if is_log_forged {
            // A forged entry may grant the right to an act. The forged entry is found.
            let of_log = |subject: &str| subject.starts_with("revision ") || subject == "table change_log";
            assert!(found.findings.iter().any(|finding| of_log(&finding.subject)), "forgery {n}: {sql}");
        } else {
            for Act { revision, problem } in &acts {
                let own = is_found(&found, *revision, problem);
                assert!(own, "forgery {n}, the act at revision {revision} is not found: {sql}: {:?}", found.findings);
            }
            assert_eq!(is_intact, acts.is_empty(), "forgery {n}: {sql}: {:?}", found.findings);
            without_effect += usize::from(is_intact);
        }
        count += acts.len();
        if is_intact {
            // A retry that got its own token is in the log.
            tamperer.keep_log().await;
        } else if head(&store).await == before {
            tamperer.restore().await;
        } else {
            // The process that has seen the changes would miss them in the restored log.
            store.close().await;
            tamperer.restore().await;
            store = db.open().await;
        }
    }
    intact(&verified(&store).await);
    let (name, took) = (db.name(), begun.elapsed());
    report::line(&format!(
        "{TAMPERINGS} forgeries on {name}: {count} acts, all found; {without_effect} without effect; in {took:?}"
    ));
}

/// The limit of the check: a restore of a backup, with log, head and rows. Only comparing with a later head finds it.
async fn a_complete_rewind_is_found_only_with_a_given_head(db: &Database) {
    let store = populated(db).await;
    let mut dice = Dice(1);
    let mut tamperer = Tamperer::new(db, &mut dice, COVERED.to_vec()).await;
    deactivate_key(&store, &key_name("c")).await;
    let noted = verified(&store).await.head;
    tamperer.restore().await;
    assert!(store.key(&key_name("c")).await.unwrap().unwrap().deactivate_time.is_none());
    intact(&verified(&store).await);
    let found = store.verify_log(Some(noted)).await.unwrap();
    assert_eq!(found.finding_count, 1);
    assert!(found.findings[0].problem.contains("ends before the head"), "{:?}", found.findings);
    // The process that made the lost changes refuses to write. A process that starts now does not know them, and continues
    // with another history.
    let deactivate = to_deactivate_key("root", "6666");
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("d"), "").await), Reason::StoreUnavailable);
    store.close().await;
    let store = db.open().await;
    deactivate_key(&store, &key_name("d")).await;
    let found = store.verify_log(Some(noted)).await.unwrap();
    assert!(found.findings[0].problem.contains("another history"), "{:?}", found.findings);
    assert_eq!(store.member_by_credential(&digest("alice")).await.unwrap().unwrap().id, member_id("alice"));
    assert!(!store.events(&EventFilter::default(), None, 1).await.unwrap().events.is_empty());
}

/// Keyward copies the rows that it finds into its log entries. These entries must not cover up a manipulation of the rows.
async fn tampering_is_found_after_keyward_changes_the_row_again(db: &Database) {
    let store = populated(db).await;
    let on_platform_call = |permission| Call { permission, ..to_create_member("root") };
    let update = on_platform_call(Permission::MemberUpdate);
    // A withheld key cannot be activated.
    let epoch = store.head().await.unwrap().epoch;
    store.accept_epoch(&on_platform_call(Permission::EpochAccept), epoch).await.unwrap();
    let on_key = |permission| Call { permission, ..to_create_key("root", "6666") };
    let key = |id: &str| format!("(SELECT uid FROM api_key WHERE project_id = '6666' AND key_id = '{id}')");
    let default_key = "(SELECT uid FROM api_key WHERE project_id = '6666' AND default_key)".to_owned();
    let default_name = {
        let filter = KeyFilter { default_key: Some(true), ..Default::default() };
        store.keys(&key_name("a").project, &filter, Revision(0), 1).await.unwrap().remove(0).name
    };
    let rotate = async |of: &str| {
        let call = on_key(Permission::DefaultKeyRotate);
        store.rotate_default_key(&call, &default_name, Duration::from_secs(3_600), &secret(of)).await.unwrap();
    };
    create_member(&store, "support", &[on_platform(Role::Support)]).await;
    store.grant_role(&update, &member_id("root"), &on_platform(Role::Support)).await.unwrap();
    rotate("first").await;
    intact(&verified(&store).await);
    for (tampering, subject) in [
        (
            "INSERT INTO role_binding (member_id, role, project_id) VALUES ('alice', 'owner', '')".to_owned(),
            "members/alice",
        ),
        ("UPDATE api_key SET expire_time = NULL, description = 'x' WHERE key_id = 'b'".to_owned(), "keys/b"),
        // The token of one key is given to another key; the end of a token is removed.
        (format!("UPDATE key_token SET key_uid = {}, generation = 2 WHERE key_uid = {}", key("c"), key("d")), "keys/c"),
        (format!("UPDATE key_token SET not_after = NULL WHERE key_uid = {default_key}"), "_default_"),
    ] {
        let before = verified(&store).await.finding_count;
        let mut plain = db.plain().await;
        if matches!(plain, Plain::Sqlite(_)) {
            plain.run("PRAGMA foreign_keys = OFF").await;
        }
        assert!(plain.run(&tampering).await > 0, "{tampering}");
        match subject {
            "members/alice" => {
                store.grant_role(&update, &member_id("alice"), &on_project(Role::Viewer, "7777")).await.unwrap();
            }
            "_default_" => rotate(&format!("after {before}")).await,
            _ => {
                let name = key_name(subject.trim_start_matches("keys/"));
                deactivate_key(&store, &name).await;
                store.activate_key(&on_key(Permission::KeyActivate), &name, "").await.unwrap();
            }
        }
        let found = verified(&store).await;
        assert!(found.finding_count > before, "{tampering} was covered up");
        let is_named =
            found.findings.iter().any(|f| f.subject.contains(subject) && f.problem.contains("does not follow"));
        assert!(is_named, "{tampering}: {:?}", found.findings);
    }
}

/// The end of the log is deleted and the head set back. Another change on top would cover that up.
async fn nothing_is_written_on_a_forged_head(db: &Database) {
    let store = populated(db).await;
    let mut plain = db.plain().await;
    let newest = plain.number("SELECT revision FROM rev_counter").await;
    let chain = format!("(SELECT chain FROM change_log WHERE revision = {})", newest - 1);
    // The last entry is a reveal, which leaves no row.
    plain.run(&format!("DELETE FROM change_log WHERE revision = {newest}")).await;
    plain.run(&format!("UPDATE rev_counter SET revision = {}, chain = {chain}", newest - 1)).await;
    for mac in ["mac", "NULL"] {
        plain.run(&format!("UPDATE rev_counter SET mac = {mac}")).await;
        let draft = key_draft(key_name("later"));
        let refusal = store.create_key(&to_create_key("root", "6666"), &draft, &secret("later")).await;
        assert_eq!(refused(refusal), Reason::Internal);
    }
    // A restart does not accept the head either.
    store.close().await;
    let store = db.open().await;
    store.check_keyring(FINGERPRINT).await.unwrap();
    assert_eq!(verified(&store).await.finding_count, 1);
}

async fn migration_signs_an_old_head_only_with_the_right_keyring(db: &Database) {
    // Only changes that such an old version could make: it could not grant roles.
    let store = db.started().await;
    create_project(&store, "7777").await;
    create_member(&store, "alice", &[on_project(Role::Editor, "6666")]).await;
    create_key(&store, &key_name("a")).await;
    deactivate_key(&store, &key_name("a")).await;
    store.close().await;
    let mut plain = db.plain().await;
    for undo in [
        "DROP INDEX change_log_project",
        "DROP INDEX change_log_actor",
        "ALTER TABLE change_log DROP COLUMN project_id",
        "ALTER TABLE rev_counter DROP COLUMN mac",
        "DELETE FROM seaql_migrations WHERE version = 'm20261124_000005_audit'",
    ] {
        plain.run(undo).await;
    }
    drop(plain);
    assert!(Store::open(&db.url(), DigestKey::new(1, [9; 32])).await.is_err(), "opened with another keyring");
    let store = db.open().await;
    intact(&verified(&store).await);
    create_key(&store, &key_name("later")).await;
    intact(&verified(&store).await);
    let filter = EventFilter { project: Some(key_name("a").project), ..Default::default() };
    assert!(
        store.events(&filter, None, 100).await.unwrap().events.len() == 4,
        "entries are missing from the project's history"
    );
}

async fn a_search_for_rare_events_is_bounded_per_call_and_complete(db: &Database) {
    let store = db.started().await;
    let mut plain = db.plain().await;
    let (rows, no_bytes) = match plain {
        Plain::Sqlite(_) => {
            ("WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 45000) SELECT", "x''")
        }
        Plain::Postgres(_) => ("SELECT", "''::bytea"),
    };
    let from = if matches!(plain, Plain::Sqlite(_)) { "n" } else { "generate_series(3, 45000) AS n (i)" };
    // Entries of a kind that this version does not know. Every 9,000th is a reveal by alice.
    let known = r#"{"change":"token_revealed","name":{"project":"6666","key":"a"},"generation":1}"#;
    plain
        .run(&format!(
            "INSERT INTO change_log (revision, chain, time, actor, resource, change, project_id) {rows} i, {no_bytes}, 1, \
             'alice', 'projects/6666/keys/a', CASE WHEN i % 9000 = 0 THEN '{known}' ELSE '{{}}' END, '6666' FROM {from}"
        ))
        .await;
    let all = EventFilter { kind: Some("token_revealed"), ..Default::default() };
    let project = Some(key_name("a").project);
    for filter in
        [all.clone(), EventFilter { project, ..all.clone() }, EventFilter { actor: Some(member_id("alice")), ..all }]
    {
        let (mut found, mut before, mut questions) = (Vec::new(), Some(Revision(45_001)), 0);
        while before.is_some() {
            let page = store.events(&filter, before, 100).await.unwrap();
            found.extend(page.events.iter().map(|event| event.revision.0));
            before = page.unsearched_before;
            questions += 1;
        }
        assert_eq!(found, [45_000, 36_000, 27_000, 18_000, 9_000]);
        assert_eq!(questions, 3, "20,000 entries at a time");
    }
}
