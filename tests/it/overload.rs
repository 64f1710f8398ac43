//! Clients that hold what others need: connections without requests, messages that never end, and answers that they do not read.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use keyward_proto::admin::Role;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::{BatchValidateTokensRequest, StreamValidateTokensRequest, ValidateTokenRequest};
use keyward_tests::client::{Admin, ValidatorClient, channel, on_project, reason, transport};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, web};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

/// Lets the test read `/proc` of the server.
const READABLE: (&str, &str) = ("KEYWARD_ALLOW_DEBUGGING", "1");

/// Descriptors and memory of a process: its open files, and its resident set in MiB.
fn held(serve: &Serve) -> (usize, u64) {
    let id = serve.process.id();
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (files, resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024)
}

/// Deactivates `count` new keys, each over a new connection. Returns the median and the longest time.
async fn deactivate(serve: &Serve, first: usize, count: usize) -> (Duration, Duration) {
    let mut times = Vec::new();
    for n in first..first + count {
        let admin = Admin::connect(serve.admin, &serve.root()).await;
        let name = format!("k{n}");
        admin.create_key("6666", &name).await.unwrap();
        let begun = Instant::now();
        admin.deactivate("6666", &name).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    (times[count / 2], times[count - 1])
}

/// Opens connections that send nothing, all at a time.
async fn idle(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    let opening: Vec<_> = (0..count).map(|_| tokio::spawn(TcpStream::connect(at))).collect();
    let mut connections = Vec::new();
    for connection in opening {
        // A listener at its limit may refuse some.
        connections.extend(connection.await.unwrap());
    }
    connections
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_of_open_files_keep_no_listener_from_answering() {
    const EACH: usize = 1_100;
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let serve =
        Serve::start_with_open_files(1_024, &["--first-request-timeout", "10s"], vec![(READABLE.0, READABLE.1.into())]);
    Admin::connect(serve.admin, &serve.root()).await.create_project("6666").await.unwrap();
    let (before, quiet) = (held(&serve), deactivate(&serve, 0, 10).await);
    let mut connections = Vec::new();
    for at in [serve.admin, serve.validator, serve.hook, serve.admin_ops, serve.validator_ops] {
        connections.extend(idle(at, EACH).await);
    }
    let (during, busy) = (held(&serve), deactivate(&serve, 10, 10).await);
    assert!(during.0 < 1_024, "{during:?}");
    for at in [serve.admin_ops, serve.validator_ops] {
        assert_eq!(web::get(at, "/readyz", &[]).await.status, 200);
    }
    ValidatorClient::connect(serve.validator).await.validate("x").await.unwrap();
    assert_eq!(web::get(serve.hook, "/auth", &[]).await.status, 401);
    // They are closed although their clients still hold them.
    let begun = Instant::now();
    while held(&serve).0 > before.0 + 50 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", held(&serve));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let closed = held(&serve);
    report::line(&format!(
        "figure: {} idle connections, ulimit -n 1024: files and MiB {before:?}, {during:?}, closed {closed:?}; deactivations p50 \
         and max {quiet:?}, {busy:?}",
        connections.len()
    ));
    assert!(!serve.process.log().contains("cannot accept a connection"));
}

// === messages that never end, and answers that no client reads ===

const VALIDATE: &str = "/keyward.validate.v1.ValidateService/ValidateToken";
const BATCH: &str = "/keyward.validate.v1.ValidateService/BatchValidateTokens";
const STREAM: &str = "/keyward.validate.v1.ValidateService/StreamValidateTokens";
const CREATE_KEY: &str = "/keyward.admin.v1.KeyService/CreateKey";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Connections of an attack, and streams of each: as many as a validator accepts.
const CONNECTIONS: usize = 16;
const STREAMS: usize = 1_024;

/// The largest message of a validator.
const LARGEST: usize = 128 << 10;

/// The most that an attack may make the server hold, in MiB: the 64 MiB of one of the two listeners of `keyward serve`, the allowances
/// of its connections, what the transport and the allocator hold besides, and half as much again.
const MOST_HELD: u64 = 384;

/// The prefix of a message of `length` bytes, and its first `sent` bytes.
fn begun(length: usize, sent: usize) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(5 + sent, 0);
    bytes.into()
}

fn whole(message: &impl prost::Message) -> Bytes {
    let mut bytes = begun(message.encoded_len(), 0).to_vec();
    message.encode(&mut bytes).unwrap();
    bytes.into()
}

/// Calls a method with a body of its own making. Returns `None` if the server closes the connection.
async fn call<C>(mut service: C, method: &str, body: Body) -> Option<http::Response<C::ResponseBody>>
where
    C: GrpcService<Body>,
    C::Error: std::fmt::Debug,
{
    let request = http::Request::post(format!("http://server{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.ok()?;
    service.call(request).await.ok()
}

/// Sends the beginning of a message to a method, and never ends it. Returns the status; `None` if the server closes the connection,
/// as it does with one that goes on sending to many calls that were refused.
async fn unfinished<C>(service: C, method: &'static str, begun: Bytes) -> Option<Status>
where
    C: GrpcService<Body>,
    C::Error: std::fmt::Debug,
{
    let first = vec![Ok::<_, Status>(Frame::data(begun))];
    let never = tokio_stream::StreamExt::chain(tokio_stream::iter(first), tokio_stream::pending());
    let response = call(service, method, Body::new(StreamBody::new(never))).await?;
    Some(Status::from_header_map(response.headers()).expect("a refusal without a message"))
}

/// Fills the memory of one connection to a validator with default settings, and returns the refusal of a further call.
pub(crate) async fn overload(at: SocketAddr) -> Status {
    let channel = channel(at).await;
    // An eighth of 64 MiB, and 256 KiB, hold 66 such messages.
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        calls.spawn(unfinished(channel.clone(), VALIDATE, begun(LARGEST, LARGEST - 1)));
    }
    while let Some(ended) = calls.join_next().await {
        let status = ended.unwrap().expect("the connection stays open");
        if reason(&status) == "OVERLOADED" {
            return status;
        }
    }
    panic!("no call was refused");
}

/// Returns the milliseconds within which half, and 99 %, of these calls were answered.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1_000.0;
    (at(50), at(99))
}

/// What a server holds, and how fast it answers an honest client over a connection of its own.
#[derive(Debug, Default)]
struct Seen {
    files: usize,
    mib: u64,
    times: Vec<Duration>,
}

impl Seen {
    /// Validates tokens one after the other while `more` returns `true`. Every call must be answered.
    async fn while_(serve: &Serve, client: &ValidatorClient, mut more: impl FnMut(usize) -> bool) -> Self {
        let mut seen = Self::default();
        while more(seen.times.len()) {
            let begun = Instant::now();
            client.validate("x").await.expect("an honest call is answered");
            seen.times.push(begun.elapsed());
            if seen.times.len() % 20 == 0 {
                let (files, mib) = held(serve);
                seen.files = seen.files.max(files);
                seen.mib = seen.mib.max(mib);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        seen
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (half, most) = percentiles(self.times.clone());
        write!(f, "{} MiB, {} files, p50 {half:.1} ms, p99 {most:.1} ms", self.mib, self.files)
    }
}

fn attacked() -> Serve {
    Serve::start_in_environment(&[], vec![(READABLE.0, READABLE.1.into())])
}

/// The sum of a metric over its series that begin with `name`.
async fn metric(at: SocketAddr, name: &str) -> u64 {
    let metrics = web::get(at, "/metrics", &[]).await.body;
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn messages_that_never_end_hold_no_more_than_the_budget_and_no_longer_than_their_deadline() {
    let serve = attacked();
    let client = ValidatorClient::connect(serve.validator).await;
    let before = Seen::while_(&serve, &client, |calls| calls < 400).await;
    let mut attack = JoinSet::new();
    let message = begun(LARGEST, LARGEST - 1);
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let channel = channel(serve.validator).await;
        for _ in 0..STREAMS {
            attack.spawn(unfinished(channel.clone(), VALIDATE, message.clone()));
        }
    }
    let (mut refused, mut late, mut closed) = (0, 0, 0);
    let during = Seen::while_(&serve, &client, |_| {
        while let Some(ended) = attack.try_join_next() {
            match ended.unwrap().map(|status| reason(&status)).as_deref() {
                Some("OVERLOADED") => refused += 1,
                Some("REQUEST_UNREADABLE") => late += 1,
                None => closed += 1,
                Some(other) => panic!("{other}"),
            }
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{} calls are not refused", attack.len());
        !attack.is_empty()
    })
    .await;
    let after = Seen::while_(&serve, &client, |calls| calls < 400).await;
    report::line(&format!(
        "figure: {CONNECTIONS} connections, {STREAMS} messages of 128 KiB each that never end: {refused} refused, {late} at their \
         deadline, {closed} with their connections; before {before}; during {during}; after {after}"
    ));
    assert!(during.mib < before.mib + MOST_HELD, "{} MiB", during.mib);
    assert_eq!(metric(serve.validator_ops, "keyward_validator_message_bytes{listener=\"validator\"}").await, 0);
    assert!(
        metric(serve.validator_ops, "keyward_validator_calls_refused_total{listener=\"validator\",cause=").await > 0
    );
}

#[tokio::test]
async fn answers_that_no_client_reads_hold_no_more_than_the_budget_and_no_longer_than_their_deadline() {
    /// Fewer than a validator accepts: each answer takes 500 validations.
    const STREAMS: usize = 384;
    let serve = attacked();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let name = "k".repeat(60);
    let token = admin.create_key("6666", &name).await.unwrap().token;
    let one = ValidateTokenRequest { token, ..Default::default() };
    let message = whole(&BatchValidateTokensRequest { requests: vec![one; 500] });
    let client = ValidatorClient::connect(serve.validator).await;
    let before = Seen::while_(&serve, &client, |calls| calls < 400).await;
    let mut attack = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        // The client allows one byte of each answer.
        let endpoint = Endpoint::from_shared(format!("http://{}", serve.validator)).unwrap();
        let channel = endpoint.initial_stream_window_size(1).connect().await.unwrap();
        for _ in 0..STREAMS {
            let (channel, message) = (channel.clone(), message.clone());
            attack.spawn(async move { call(channel, BATCH, Body::new(http_body_util::Full::new(message))).await });
        }
    }
    let mut answers = Vec::new();
    let during = Seen::while_(&serve, &client, |_| {
        while let Some(answer) = attack.try_join_next() {
            answers.extend(answer);
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{} calls are not answered", attack.len());
        !attack.is_empty()
    })
    .await;
    // The connections are closed after a minute, and their memory is free.
    while held(&serve).0 + CONNECTIONS / 2 > during.files {
        assert!(began.elapsed() < Duration::from_secs(240), "the connections stay open");
        client.validate("x").await.expect("an honest call is answered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let closed = began.elapsed().as_secs();
    let after = Seen::while_(&serve, &client, |calls| calls < 400).await;
    report::line(&format!(
        "figure: {CONNECTIONS} connections, {STREAMS} batch answers each that no client reads: before {before}; during {during}; \
         closed after {closed} s; after {after}"
    ));
    assert!(during.mib < before.mib + MOST_HELD, "{} MiB", during.mib);
    let unread = "keyward_validator_connections_closed_total{listener=\"validator\",cause=\"unread\"}";
    assert!(metric(serve.validator_ops, unread).await > 0);
    drop(answers);
}

#[tokio::test]
async fn bytes_that_are_only_announced_keep_no_other_client_from_being_answered() {
    let serve = attacked();
    let mut attack = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = channel(serve.validator).await;
        for _ in 0..60 {
            attack.spawn(unfinished(channel.clone(), VALIDATE, begun(LARGEST, 0)));
            attack.spawn(unfinished(channel.clone(), HEALTH, begun(1 << 20, 0)));
        }
    }
    // A batch as large as a validator takes.
    let client = ValidatorClient::connect(serve.validator).await;
    let one = ValidateTokenRequest { token: "x".repeat(200), ..Default::default() };
    assert_eq!(client.batch(vec![one; 500]).await.unwrap().len(), 500);
    let ended = tokio::time::timeout(Duration::from_secs(60), attack.join_all()).await;
    for status in ended.expect("every call ends at its deadline") {
        let status = status.expect("the connection stays open");
        assert_eq!(reason(&status), "REQUEST_UNREADABLE", "no call is refused for bytes that have not arrived");
    }
}

#[tokio::test]
async fn a_member_that_fills_the_admins_memory_ends_no_session_and_holds_no_deactivation() {
    let serve = attacked();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    for n in 0..50 {
        root.create_key("6666", &format!("k{n}")).await.unwrap();
    }
    let edge = serve.spawn_validator("edge");
    let credential = root.create_member("attacker", &[on_project(Role::Editor, "6666")]).await.unwrap();
    let mut attack = JoinSet::new();
    let message = begun(1 << 20, (1 << 20) - 1);
    for _ in 0..CONNECTIONS {
        let transport = transport(serve.admin, Some(&credential)).await;
        for _ in 0..20 {
            attack.spawn(unfinished(transport.clone(), CREATE_KEY, message.clone()));
        }
    }
    let began = Instant::now();
    while metric(serve.admin_ops, "keyward_admin_message_bytes{listener=\"admin\"}").await < 50 << 20 {
        assert!(began.elapsed() < Duration::from_secs(30), "the attack is not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A validator joins and takes its snapshot, and both follow.
    let late = serve.spawn_validator_with("late", &[]);
    for n in 0..50 {
        let receipt = root.deactivate("6666", &format!("k{n}")).await.unwrap().receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 3));
    }
    assert!(metric(serve.admin_ops, "keyward_admin_message_bytes{listener=\"admin\"}").await > 0, "the attack goes on");
    assert!(!serve.process.log().contains("a validator's session ends"));
    for validator in [edge, late] {
        assert!(!validator.process.log().contains("a session is over"));
    }
}

#[tokio::test]
async fn each_message_of_a_stream_has_a_deadline_of_its_own() {
    let serve = Serve::start();
    let message = |id| {
        let request = Some(ValidateTokenRequest { token: "x".repeat(40), ..Default::default() });
        whole(&StreamValidateTokensRequest { id, request })
    };
    let (send, frames) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let body = Body::new(StreamBody::new(ReceiverStream::new(frames)));
    let answers = tokio::spawn(call(channel(serve.validator).await, STREAM, body));
    // Each part ends one message and begins the next, so that at no time no message is open.
    let mut open = message(0);
    let mut answers = answers.await.unwrap().expect("the stream begins").into_body();
    let begun = Instant::now();
    for id in 1.. {
        let next = message(id);
        let (first, rest) = (next.slice(..20), next.slice(20..));
        let part = [open, first].concat();
        send.send(Ok(Frame::data(part.into()))).await.unwrap();
        open = rest;
        assert!(answers.frame().await.unwrap().unwrap().is_data(), "message {id} is answered");
        if begun.elapsed() > Duration::from_secs(13) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // The last message arrives byte by byte, and is late.
    let dribbling = Instant::now();
    let dribble = async {
        for byte in open.iter() {
            if send.send(Ok(Frame::data(Bytes::copy_from_slice(&[*byte])))).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        () = dribble => unreachable!(),
        end = answers.frame() => end.unwrap().unwrap(),
    };
    let status = Status::from_header_map(end.trailers_ref().expect("the stream ends")).unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_UNREADABLE"));
    let took = dribbling.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
}
