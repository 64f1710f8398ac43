//! Plain HTTP/1.1 requests, with nothing added or hidden: headers go out exactly as given, twice if given twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, lower-case names; of duplicates the last.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

/// Asks for `path` with these headers.
///
/// # Panics
/// When there is no answer.
pub async fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(Method::GET, at, path, headers).await
}

/// The same with another method.
///
/// # Panics
/// When there is no answer.
pub async fn request(method: Method, at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "keyward.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}
