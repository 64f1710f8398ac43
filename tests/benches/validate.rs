//! ValidateToken beside a tonic server that answers the same messages without any work:
//! `cargo bench --workspace --bench validate`.
//!
//! Servers run on the first core, the clients on the second. Rounds of Keyward and of the baseline alternate, because the
//! speed of a machine changes from minute to minute; a ratio compares two rounds that followed each other.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::validate_service_server::{ValidateService, ValidateServiceServer};
use keyward_proto::validate::{
    BatchValidateTokensRequest, BatchValidateTokensResponse, StreamValidateTokensRequest, StreamValidateTokensResponse,
    ValidateTokenRequest, ValidateTokenResponse, Verdict,
};
use keyward_tests::client::{Admin, channel};
use keyward_tests::keyward::Serve;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Connections, and calls under way on each.
const LOADS: [(usize, usize); 3] = [(4, 16), (1, 256), (64, 1)];
const PAIRS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(200);

/// The argument with which this program serves the baseline.
const BASELINE: &str = "--serve-baseline";

/// Answers every call with a response of the size of a real one.
#[derive(Debug)]
struct Baseline(ValidateTokenResponse);

#[tonic::async_trait]
impl ValidateService for Baseline {
    async fn validate_token(
        &self,
        request: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        drop(request);
        Ok(Response::new(self.0.clone()))
    }

    async fn batch_validate_tokens(
        &self,
        _: Request<BatchValidateTokensRequest>,
    ) -> Result<Response<BatchValidateTokensResponse>, Status> {
        Err(Status::unimplemented("the baseline answers ValidateToken only"))
    }

    type StreamValidateTokensStream = ReceiverStream<Result<StreamValidateTokensResponse, Status>>;

    async fn stream_validate_tokens(
        &self,
        _: Request<Streaming<StreamValidateTokensRequest>>,
    ) -> Result<Response<Self::StreamValidateTokensStream>, Status> {
        Err(Status::unimplemented("the baseline answers ValidateToken only"))
    }
}

/// A process of this program that serves the baseline.
struct BaselineServer(Child, SocketAddr);

impl BaselineServer {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg(BASELINE).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().parse().unwrap())
    }
}

impl Drop for BaselineServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve_baseline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let response = ValidateTokenResponse {
        verdict: Verdict::Valid.into(),
        project: "projects/6666".to_owned(),
        key: "projects/6666/keys/server_prod".to_owned(),
        revision: 3,
        ..Default::default()
    };
    let service = ValidateServiceServer::new(Baseline(response));
    let incoming = TcpListenerStream::new(listener);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// Has this thread, and every thread and process that it starts, run on one core.
fn pin_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).unwrap();
}

fn main() {
    if std::env::args().any(|argument| argument == BASELINE) {
        return serve_baseline();
    }
    pin_to(0);
    let (serve, baseline) = (Serve::start(), BaselineServer::start());
    pin_to(1);
    measure(&serve, &baseline);
}

#[tokio::main(flavor = "current_thread")]
async fn measure(serve: &Serve, baseline: &BaselineServer) {
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "server_prod").await.unwrap().token;
    for (connections, calls) in LOADS {
        let mut pairs = Vec::new();
        for _ in 0..PAIRS {
            let ours = round(serve.validator, &token, connections, calls).await;
            pairs.push((ours, round(baseline.1, &token, connections, calls).await));
        }
        println!("{connections} connections with {calls} calls each, {PAIRS} pairs of {ROUND:?}, min-median-max:");
        println!("  ValidateToken, calls/s          {}", spread(pairs.iter().map(|(ours, _)| *ours), 0));
        println!("  tonic without work, calls/s     {}", spread(pairs.iter().map(|(_, base)| *base), 0));
        println!("  ratio                           {}", spread(pairs.iter().map(|(ours, base)| ours / base), 2));
    }
}

/// Returns the calls answered VALID per second.
async fn round(at: SocketAddr, token: &str, connections: usize, calls: usize) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let client = ValidateServiceClient::new(channel(at).await);
        for _ in 0..calls {
            let (mut client, token, answered) = (client.clone(), token.to_owned(), Arc::clone(&answered));
            tasks.spawn(async move {
                loop {
                    let request = ValidateTokenRequest {
                        token: token.clone(),
                        project: "projects/6666".to_owned(),
                        ..Default::default()
                    };
                    let response = client.validate_token(request).await.unwrap().into_inner();
                    assert_eq!(response.verdict(), Verdict::Valid);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let (begun, before) = (Instant::now(), answered.load(Ordering::Relaxed));
    tokio::time::sleep(ROUND).await;
    (answered.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
}

fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (min, median, max) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{min:.digits$} - {median:.digits$} - {max:.digits$}")
}
