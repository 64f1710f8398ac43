//! Request ids: a retry returns the result of the first request.

use std::fmt::Debug;
use std::time::Duration;

use keyward_domain::{Error, KeyDraft, Permission, Reason, Revision, Role};
use keyward_store::{Call, CreatedKey, IssuedSecret, Rotation, SecretRecord, Store};

use super::database::Database;
use super::{
    REQUEST, START, create_key, create_member, deactivate_key, digest, head, key_draft, key_name, member_draft,
    member_id, on_all, on_durable, on_platform, project_draft, refused, sealed, secret, to_create_key,
    to_create_member, to_create_project, under,
};

on_all! {
    a_retried_create_key_finds_the_first_key,
    a_retried_create_project_finds_the_first_project,
    a_retried_create_member_finds_the_first_member,
    a_retry_returns_the_current_key,
    each_replay_of_a_secret_is_in_the_log,
    a_retry_returns_no_token_of_a_key_that_is_not_active,
    a_retry_returns_no_credential_that_is_revoked,
    a_retry_is_answered_after_its_key_expired,
    a_retry_without_a_sealing_key_has_no_secret,
    a_request_id_with_another_payload_is_refused,
    a_request_id_is_per_member_and_method,
    a_refused_request_leaves_its_id_free,
    concurrent_identical_requests_create_one_key,
    concurrent_identical_requests_create_one_project,
    concurrent_identical_requests_create_one_member,
    concurrent_different_requests_with_one_id_create_one_key,
}

on_durable! {
    a_request_id_is_free_again_after_a_day,
    a_forged_request_row_hands_out_no_token,
}

const OTHER_REQUEST: &str = "9a1f6f0e-51a5-4d0b-8e0c-7d3c1f0b2a55";

async fn request_key(
    store: &Store,
    actor: &str,
    payload: u8,
    key: &str,
    secret: &SecretRecord,
) -> Result<CreatedKey, Error> {
    let call = under(to_create_key(actor, "6666"), "CreateKey", REQUEST, payload);
    store.create_key(&call, &key_draft(key_name(key)), secret).await
}

/// The secret in the answer to a retry: the one of the first answer, whatever secret the retry brought.
fn replay_of(of: &str) -> IssuedSecret {
    IssuedSecret::Replayed(sealed(of))
}

async fn a_retried_create_key_finds_the_first_key(db: &Database) {
    let store = db.started().await;
    let first = request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    assert_eq!(first.secret, IssuedSecret::New);
    create_key(&store, &key_name("b")).await;
    for retry in ["second", "third"] {
        let again = request_key(&store, "root", 1, "a", &secret(retry)).await.unwrap();
        assert_eq!((again.key, again.revision), (first.key.clone(), first.revision));
        assert_eq!(again.secret, replay_of("first"));
    }
    // The two keys, and the two replays of the token.
    assert_eq!(head(&store).await, Revision(6));
}

async fn a_retried_create_project_finds_the_first_project(db: &Database) {
    let store = db.started().await;
    let call = under(to_create_project("root"), "CreateProject", REQUEST, 1);
    // The id is allocated. The retry does not know it, and must not allocate another one.
    let first = store.create_project(&call, &project_draft(""), 1, &secret("first")).await.unwrap();
    let again = store.create_project(&call, &project_draft(""), 2, &secret("second")).await.unwrap();
    assert_eq!((first.secret, again.secret), (IssuedSecret::New, replay_of("first")));
    assert_eq!((again.project, again.default_key, again.revision), (first.project, first.default_key, first.revision));
    assert_eq!(head(&store).await, first.revision.next());
}

async fn a_retried_create_member_finds_the_first_member(db: &Database) {
    let store = db.started().await;
    let call = under(to_create_member("root"), "CreateMember", REQUEST, 1);
    let draft = member_draft("alice", &[on_platform(Role::Support)]);
    let first = store.create_member(&call, &draft, &secret("first")).await.unwrap();
    let again = store.create_member(&call, &draft, &secret("second")).await.unwrap();
    assert_eq!((first.secret, again.secret), (IssuedSecret::New, replay_of("first")));
    assert_eq!((again.member, again.revision), (first.member, first.revision));
    assert_eq!(store.member_by_credential(&digest("second")).await.unwrap(), None);
    assert_eq!(head(&store).await, first.revision.next());
}

async fn a_retry_returns_the_current_key(db: &Database) {
    let store = db.started().await;
    let first = request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    deactivate_key(&store, &key_name("a")).await;
    let again = request_key(&store, "root", 1, "a", &secret("second")).await.unwrap();
    assert_eq!((again.revision, again.secret), (first.revision, IssuedSecret::Withheld));
    assert_eq!(Some(again.key), store.key(&key_name("a")).await.unwrap());
}

async fn a_retry_is_answered_after_its_key_expired(db: &Database) {
    let store = db.started().await;
    let expire_time = store.now().await.unwrap().plus(Duration::from_millis(600));
    let draft = KeyDraft { expire_time: Some(expire_time), ..key_draft(key_name("a")) };
    let call = under(to_create_key("root", "6666"), "CreateKey", REQUEST, 1);
    let first = store.create_key(&call, &draft, &secret("first")).await.unwrap();
    while store.now().await.unwrap() <= expire_time {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = store.create_key(&call, &draft, &secret("second")).await.unwrap();
    assert_eq!((again.key, again.secret), (first.key, replay_of("first")));
}

async fn a_retry_without_a_sealing_key_has_no_secret(db: &Database) {
    let store = db.started().await;
    request_key(&store, "root", 1, "a", &SecretRecord { sealed: None, ..secret("first") }).await.unwrap();
    let again = request_key(&store, "root", 1, "a", &secret("second")).await.unwrap();
    assert_eq!(again.secret, IssuedSecret::NotKept);
}

async fn a_request_id_with_another_payload_is_refused(db: &Database) {
    let store = db.started().await;
    request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    for key in ["a", "b"] {
        let other = request_key(&store, "root", 2, key, &secret("second")).await;
        assert_eq!(refused(other), Reason::RequestIdReused, "{key}");
    }
    assert_eq!(store.key(&key_name("b")).await.unwrap(), None);
    assert_eq!(head(&store).await, START.next());
}

async fn a_request_id_is_per_member_and_method(db: &Database) {
    let store = db.started().await;
    create_member(&store, "olga", &[on_platform(Role::Owner)]).await;
    request_key(&store, "root", 1, "a", &secret("a")).await.unwrap();
    let other_member = request_key(&store, "olga", 2, "b", &secret("b")).await.unwrap();
    let call = under(to_create_project("root"), "CreateProject", REQUEST, 3);
    let other_method = store.create_project(&call, &project_draft("7777"), 1, &secret("c")).await.unwrap();
    let call = under(to_create_key("root", "6666"), "CreateKey", OTHER_REQUEST, 4);
    let other_id = store.create_key(&call, &key_draft(key_name("d")), &secret("d")).await.unwrap();
    for secret in [other_member.secret, other_method.secret, other_id.secret] {
        assert_eq!(secret, IssuedSecret::New);
    }
    assert_eq!(head(&store).await, Revision(7));
}

async fn a_refused_request_leaves_its_id_free(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("taken")).await;
    let refusal = request_key(&store, "root", 1, "taken", &secret("a")).await;
    assert_eq!(refused(refusal), Reason::KeyNameTaken);
    let created = request_key(&store, "root", 2, "free", &secret("b")).await.unwrap();
    assert_eq!(created.secret, IssuedSecret::New);
}

/// The answer to a try: the resource, the revision, and the secret.
type Answer<T> = (T, Revision, IssuedSecret);

/// Sends one request eight times concurrently, through both admins. One of them is the first, and the others must return its
/// result. Runs ten rounds, because the interleaving of their statements is random. `attempt` gets the number of the round
/// and of the try.
async fn assert_one_is_first<T, F>(db: &Database, attempt: impl Fn(Store, u32, String) -> F)
where
    T: Debug + PartialEq + Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let store = db.started().await;
    let admins = db.admins(&store).await;
    for round in 0..10 {
        let before = head(&store).await;
        let tries = (0..8).map(|n| tokio::spawn(attempt(admins[n % 2].clone(), round, n.to_string())));
        let mut answers = Vec::new();
        for answer in tries.collect::<Vec<_>>() {
            answers.push(answer.await.unwrap());
        }
        let first = answers.iter().position(|(.., secret)| *secret == IssuedSecret::New).expect("no try is the first");
        let revision = before.next();
        // The change, and one replay of its secret for each other try.
        assert_eq!(head(&store).await, Revision(before.0 + 8));
        for (n, (made, at, secret)) in answers.iter().enumerate() {
            assert_eq!((made, *at), (&answers[first].0, revision));
            let expected = if n == first { IssuedSecret::New } else { replay_of(&first.to_string()) };
            assert_eq!(*secret, expected, "try {n}, the first being {first}");
        }
    }
}

/// A request id for the round, and a unique secret. Its sealed form is named by the number of the try.
fn round_and_try(round: u32, n: &str) -> (String, SecretRecord) {
    let secret = SecretRecord { sealed: Some(sealed(n)), ..secret(&format!("{round} {n}")) };
    (format!("{round:08}-2b1d-4b7e-9d55-0c6a2f1f9a10"), secret)
}

async fn concurrent_identical_requests_create_one_key(db: &Database) {
    let attempt = |store: Store, round, n: String| async move {
        let (request, secret) = round_and_try(round, &n);
        let call = under(to_create_key("root", "6666"), "CreateKey", &request, 1);
        let created = store.create_key(&call, &key_draft(key_name(&format!("key_{round}"))), &secret).await.unwrap();
        (created.key, created.revision, created.secret)
    };
    assert_one_is_first(db, attempt).await;
}

async fn concurrent_identical_requests_create_one_project(db: &Database) {
    let attempt = |store: Store, round, n: String| async move {
        let (request, secret) = round_and_try(round, &n);
        let call = under(to_create_project("root"), "CreateProject", &request, 1);
        // Alternates between a given id and an allocated one.
        let id = if round % 2 == 0 { format!("round{round}") } else { String::new() };
        let created = store.create_project(&call, &project_draft(&id), 1, &secret).await.unwrap();
        ((created.project, created.default_key), created.revision, created.secret)
    };
    assert_one_is_first(db, attempt).await;
}

async fn concurrent_identical_requests_create_one_member(db: &Database) {
    let attempt = |store: Store, round, n: String| async move {
        let (request, secret) = round_and_try(round, &n);
        let call = under(to_create_member("root"), "CreateMember", &request, 1);
        let draft = member_draft(&format!("member-{round}"), &[]);
        let created = store.create_member(&call, &draft, &secret).await.unwrap();
        (created.member, created.revision, created.secret)
    };
    assert_one_is_first(db, attempt).await;
}

async fn concurrent_different_requests_with_one_id_create_one_key(db: &Database) {
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let tries: Vec<_> = (0..8_u8)
        .map(|n| {
            let store = admins[usize::from(n) % 2].clone();
            let name = format!("key_{n}");
            tokio::spawn(async move { request_key(&store, "root", n, &name, &secret(&name)).await })
        })
        .collect();
    let mut created = 0;
    for answer in tries {
        match answer.await.unwrap() {
            Ok(_) => created += 1,
            Err(error) => assert_eq!(error.reason(), Reason::RequestIdReused, "{:?}", error.internal_detail()),
        }
    }
    assert_eq!((created, head(&store).await), (1, START.next()));
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn a_request_id_is_free_again_after_a_day(db: &Database) {
    let store = db.started().await;
    let age = async |by: Duration| store.age_requests(by).await.unwrap();
    let first = request_key(&store, "root", 1, "a", &secret("a")).await.unwrap();

    age(DAY - Duration::from_secs(60)).await;
    let again = request_key(&store, "root", 1, "a", &secret("again")).await.unwrap();
    assert_eq!((again.revision, again.secret), (first.revision, replay_of("a")));

    age(Duration::from_secs(61)).await;
    let next = request_key(&store, "root", 2, "b", &secret("b")).await.unwrap();
    assert_eq!((next.revision, next.secret), (first.revision.next().next(), IssuedSecret::New));
    let again = request_key(&store, "root", 2, "b", &secret("again")).await.unwrap();
    assert_eq!((again.revision, again.secret), (next.revision, replay_of("b")));
    let first = request_key(&store, "root", 1, "a", &secret("again")).await;
    assert_eq!(refused(first), Reason::RequestIdReused);
}

/// The kinds of the changes after a revision.
async fn kinds_after(store: &Store, revision: Revision) -> Vec<&'static str> {
    store.changes_after(revision, 100).await.unwrap().iter().map(|entry| entry.change.kind()).collect()
}

async fn each_replay_of_a_secret_is_in_the_log(db: &Database) {
    let store = db.started().await;
    let key = async || request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    key().await;
    let project = under(to_create_project("root"), "CreateProject", REQUEST, 1);
    let project = async || store.create_project(&project, &project_draft("7777"), 1, &secret("7777")).await.unwrap();
    project().await;
    let rotation = Rotation { old: key_name("a"), new: key_name("b").key, deactivate_old_after: None };
    let rotate = Call { permission: Permission::KeyRotate, ..to_create_key("root", "6666") };
    let rotate = under(rotate, "RotateKey", REQUEST, 1);
    store.rotate_key(&rotate, &rotation, &secret("b")).await.unwrap();
    let member = under(to_create_member("root"), "CreateMember", REQUEST, 1);
    let draft = member_draft("alice", &[]);
    store.create_member(&member, &draft, &secret("alice")).await.unwrap();
    let issue = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    let issue = under(issue, "IssueCredential", REQUEST, 1);
    store.issue_credential(&issue, &draft.id, &secret("alice 2")).await.unwrap();

    let before = head(&store).await;
    assert_eq!(key().await.secret, replay_of("first"));
    assert_eq!(project().await.secret, replay_of("7777"));
    assert_eq!(store.rotate_key(&rotate, &rotation, &secret("x")).await.unwrap().secret, replay_of("b"));
    assert_eq!(store.create_member(&member, &draft, &secret("y")).await.unwrap().secret, replay_of("alice"));
    let issued = store.issue_credential(&issue, &draft.id, &secret("z")).await.unwrap();
    assert_eq!(issued.secret, replay_of("alice 2"));
    let (token, credential) = ("token_replayed", "credential_replayed");
    assert_eq!(kinds_after(&store, before).await, [token, token, token, credential, credential]);
    let found = store.verify_log(None).await.unwrap();
    assert_eq!((found.finding_count, &found.findings[..]), (0, &[][..]));
}

async fn a_retry_returns_no_token_of_a_key_that_is_not_active(db: &Database) {
    let store = db.started().await;
    let first = request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    let rotation = Rotation { old: key_name("a"), new: key_name("b").key, deactivate_old_after: None };
    let rotate = Call { permission: Permission::KeyRotate, ..to_create_key("root", "6666") };
    let rotate = under(rotate, "RotateKey", REQUEST, 1);
    store.rotate_key(&rotate, &rotation, &secret("b")).await.unwrap();
    deactivate_key(&store, &key_name("a")).await;
    let end = deactivate_key(&store, &key_name("b")).await;

    let again = request_key(&store, "root", 1, "a", &secret("second")).await.unwrap();
    assert!(!matches!(again.secret, IssuedSecret::Replayed(_)), "the token of a deactivated key is handed out");
    assert_eq!((again.revision, Some(again.key)), (first.revision, store.key(&key_name("a")).await.unwrap()));
    let again = store.rotate_key(&rotate, &rotation, &secret("x")).await.unwrap();
    assert!(!matches!(again.secret, IssuedSecret::Replayed(_)), "the token of a deactivated key is handed out");
    assert_eq!(head(&store).await, end, "nothing was handed out, so nothing is logged");

    // The token of a default key that has been rotated since.
    let project = under(to_create_project("root"), "CreateProject", REQUEST, 1);
    let created = store.create_project(&project, &project_draft("7777"), 1, &secret("7777")).await.unwrap();
    let update = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    store.grant_role(&update, &member_id("root"), &on_platform(Role::Support)).await.unwrap();
    let rotate = Call { permission: Permission::DefaultKeyRotate, ..to_create_key("root", "7777") };
    let name = &created.default_key.name;
    store.rotate_default_key(&rotate, name, Duration::from_secs(60), &secret("next")).await.unwrap();
    let again = store.create_project(&project, &project_draft("7777"), 1, &secret("x")).await.unwrap();
    assert!(!matches!(again.secret, IssuedSecret::Replayed(_)), "a superseded token is handed out");
}

async fn a_retry_returns_no_credential_that_is_revoked(db: &Database) {
    let store = db.started().await;
    let create = under(to_create_member("root"), "CreateMember", REQUEST, 1);
    let draft = member_draft("alice", &[]);
    store.create_member(&create, &draft, &secret("alice")).await.unwrap();
    let update = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    let issue = under(update.clone(), "IssueCredential", REQUEST, 1);
    store.issue_credential(&issue, &draft.id, &secret("alice 2")).await.unwrap();
    for credential in store.credentials(&draft.id).await.unwrap() {
        store.revoke_credential(&update, &credential.name).await.unwrap();
    }
    let again = store.create_member(&create, &draft, &secret("x")).await.unwrap();
    assert!(!matches!(again.secret, IssuedSecret::Replayed(_)), "a revoked credential is handed out");
    let again = store.issue_credential(&issue, &draft.id, &secret("y")).await.unwrap();
    assert!(!matches!(again.secret, IssuedSecret::Replayed(_)), "a revoked credential is handed out");
}

/// A writer with access to the database and without the keyring copies the sealed token of another key into a request row.
async fn a_forged_request_row_hands_out_no_token(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("victim")).await;
    request_key(&store, "root", 1, "a", &secret("first")).await.unwrap();
    let mut plain = db.plain().await;
    let victim = "(SELECT sealed FROM key_token WHERE key_uid = (SELECT uid FROM api_key WHERE key_id = 'victim'))";
    for forgery in [
        format!("UPDATE request SET sealed = {victim}"),
        "UPDATE request SET resource = 'projects/6666/keys/victim'".to_owned(),
        format!("UPDATE request SET sealed = {victim}, resource = 'projects/6666/keys/victim'"),
        // Another member's request, and one of another method.
        "UPDATE request SET member_id = 'root', create_time = create_time + 1".to_owned(),
        "UPDATE request SET revision = revision - 1".to_owned(),
        "UPDATE request SET sealing_key_id = 8".to_owned(),
    ] {
        for sign in ["", ", mac = NULL"] {
            plain.run("DROP TABLE IF EXISTS kept").await;
            plain.run("CREATE TABLE kept AS SELECT * FROM request").await;
            if plain.try_run(&format!("{forgery}{sign}")).await.is_err() {
                continue;
            }
            for name in ["a", "victim"] {
                let again = request_key(&store, "root", 1, name, &secret("second")).await;
                let handed_out = again.is_ok_and(|again| matches!(again.secret, IssuedSecret::Replayed(_)));
                assert!(!handed_out, "{forgery}{sign}: a token is handed out for {name}");
            }
            plain.run("DELETE FROM request").await;
            plain.run("INSERT INTO request SELECT * FROM kept").await;
        }
    }
    let again = request_key(&store, "root", 1, "a", &secret("second")).await.unwrap();
    assert_eq!(again.secret, replay_of("first"));
}
