//! Requests that are no messages: bytes that protobuf cannot decode, truncated messages, and messages above the size limit.

use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::Bytes;
use keyward_proto::admin::Role;
use keyward_tests::client::{Admin, channel, on_platform, on_project, reason};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, web};
use prost::Message;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::{Code, Status};

/// Methods of services that are not in Keyward's own contract.
const ADOPTED: [&str; 3] = [
    "grpc.health.v1.Health/Check",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Returns `package.Service/Method` of every method of the packages that `wanted` accepts.
fn methods(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(keyward_proto::DESCRIPTOR_SET).unwrap();
    let mut methods: Vec<_> = ADOPTED.iter().map(|method| (*method).to_owned()).collect();
    for file in set.file.iter().filter(|file| wanted(file.package())) {
        for service in &file.service {
            let of_service = service.method.iter().map(prost_types::MethodDescriptorProto::name);
            methods.extend(of_service.map(|method| format!("{}.{}/{method}", file.package(), service.name())));
        }
    }
    methods
}

/// Sends `body` to a method and returns the status, from the headers or from the trailers.
async fn send(at: SocketAddr, credential: &str, method: &str, body: &[u8]) -> Status {
    let request = http::Request::post(format!("http://{at}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {credential}"))
        .body(Body::new(Full::new(Bytes::copy_from_slice(body))))
        .unwrap();
    let mut channel = channel(at).await;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    Status::from_header_map(collected.trailers().expect("trailers")).expect("a status")
}

/// Frames a message as gRPC does, with any length in its prefix.
fn frame(length: usize, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes
}

#[tokio::test]
async fn an_unreadable_request_is_an_invalid_argument_with_a_reason_at_every_method_of_every_listener() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let roles = [Role::Owner, Role::Support, Role::Validator, Role::AdminNode].map(on_platform);
    let roles = [&roles[..], &[on_project(Role::Editor, "6666")]].concat();
    let credential = root.create_member("all_roles", &roles).await.unwrap();
    let mut admin = methods(|package| package != "keyward.validate.v1");
    admin.retain(|method| !method.starts_with("envoy."));
    let mut validator = methods(|package| package == "keyward.validate.v1");
    validator.push("envoy.service.auth.v3.Authorization/Check".to_owned());
    let mut calls = 0;
    for (at, methods, limit) in [(serve.admin, admin, 1 << 20), (serve.validator, validator, 128 << 10)] {
        for method in methods {
            // A varint that never ends, a message that is cut off, a message above the limit, no message, a flag that no version
            // defines.
            let bodies =
                [frame(4, &[0xff; 4]), frame(100, &[0x0a, 3]), frame(limit + 1, &[0; 16]), vec![7, 0, 0, 0, 0]];
            for body in bodies {
                let status = send(at, &credential, &method, &body).await;
                // Of reflection, which tonic implements, a stream that breaks ends without a status of its own.
                if method.contains("ServerReflection") && status.code() == Code::Ok {
                    continue;
                }
                assert_eq!(
                    (status.code(), reason(&status).as_str()),
                    (Code::InvalidArgument, "REQUEST_UNREADABLE"),
                    "{method} with {:?}: {status:?}",
                    &body[..6.min(body.len())]
                );
                calls += 1;
            }
        }
    }
    let metrics = web::get(serve.admin_ops, "/metrics", &[]).await.body;
    assert!(metrics.contains("code=\"InvalidArgument\""), "{metrics}");
    assert!(!metrics.contains("code=\"Internal\""), "{metrics}");
    assert!(!serve.process.log().contains("a call failed with an internal error"));
    report::line(&format!("{calls} unreadable requests, each INVALID_ARGUMENT with REQUEST_UNREADABLE"));
}
