//! Plain HTTP/1.1 requests: headers are sent exactly as given, including duplicates, with nothing added but `host`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, with lower-case names. Of duplicates, the last.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

/// Sends a GET request for `path` with these headers.
///
/// # Panics
/// If there is no response.
pub async fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(Method::GET, at, path, headers).await
}

/// Sends a request with another method.
///
/// # Panics
/// If there is no response.
pub async fn request(method: Method, at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    Connection::open(at).await.unwrap().request(method, path, headers).await.unwrap()
}

/// A connection that serves many requests.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// If nothing listens there.
    pub async fn open(at: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }

    /// Sends a request and reads the response to its end.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn request(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.request_raw(method, path, &headers).await
    }

    /// Like [`Connection::request`], with header values that need not be UTF-8.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn request_raw(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "keyward.test");
        for (name, value) in headers {
            request = request.header(*name, http::HeaderValue::from_bytes(value)?);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status().as_u16();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
