//! An upstream that records requests byte for byte: request line, headers and trailers, in the spelling and order that
//! arrived. It accepts every protocol upgrade, as a careless upstream would, and then echoes all bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The `sec-websocket-accept` for [`SAMPLE_KEY`], from the example of RFC 6455 §1.3. HAProxy checks it.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The only `sec-websocket-key` with which a WebSocket can be opened here.
pub const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The response. It has a CORS header that a gateway may have to replace.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\naccess-control-allow-origin: https://upstream.example\r\n\r\n";

/// Fields of a header or trailer section, in the order and spelling that arrived.
pub type Fields = Vec<(String, String)>;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Example: `GET /public HTTP/1.1`.
    pub line: String,
    /// The header section.
    pub headers: Fields,
    /// Length of the body in bytes, without its framing.
    pub body: u64,
    /// The trailer section of a chunked body.
    pub trailers: Fields,
}

/// A running upstream; ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    /// The address on which it listens.
    pub at: SocketAddr,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    task: JoinHandle<()>,
}

impl Recorded {
    /// Returns the values of every header with that name. The name is compared without regard to case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the request target: the second word of the request line.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    fn has_word(&self, name: &str, wanted: &str) -> bool {
        self.header(name).flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    }
}

impl Recorder {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&recorded);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                // Broken connections are left to the gateway under test.
                tokio::spawn(async move { serve(stream, &record).await.ok() });
            }
        });
        Self { at, recorded, task }
    }

    /// Takes the requests that have arrived since the last call.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.recorded.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, record: &Mutex<Vec<Recorded>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = Recorded { line: line(&mut stream).await?, ..Default::default() };
        request.headers = fields(&mut stream).await?;
        if request.has_word("expect", "100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let upgrade = request.header("upgrade").next().map(str::to_owned);
        if let Some(protocol) = upgrade.filter(|_| request.has_word("connection", "upgrade")) {
            record.lock().unwrap().push(request);
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
                 sec-websocket-accept: {ACCEPT}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            return echo(stream).await;
        }
        let length = request.header("content-length").next().map(str::parse).transpose()?;
        if request.has_word("transfer-encoding", "chunked") {
            (request.body, request.trailers) = chunks(&mut stream).await?;
        } else if let Some(length) = length {
            request.body = length;
            let mut body = (&mut stream).take(request.body);
            tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        }
        let head = request.line.starts_with("HEAD ");
        let close = request.has_word("connection", "close");
        record.lock().unwrap().push(request);
        stream.write_all(ANSWER).await?;
        if !head {
            stream.write_all(b"recorded").await?;
        }
        if close {
            return Ok(());
        }
    }
}

async fn echo(mut stream: BufReader<TcpStream>) -> Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..read]).await?;
    }
}

/// Reads a line without its end. Invalid UTF-8 becomes `U+FFFD`.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        bail!("the connection ended");
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

async fn fields(stream: &mut BufReader<TcpStream>) -> Result<Fields> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').context("no colon in a field")?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> Result<(u64, Fields)> {
    let mut body = 0;
    loop {
        let size = line(stream).await?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok((body, fields(stream).await?));
        }
        body += size;
        let mut chunk = (&mut *stream).take(size);
        tokio::io::copy(&mut chunk, &mut tokio::io::sink()).await?;
        line(stream).await?;
    }
}
