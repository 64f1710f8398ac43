//! Requests that no HTTP library would send, as bytes over a socket: HTTP/1.1, and HTTP/2 without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest wait for a response. Longer than the timeout of every gateway.
const PATIENCE: Duration = Duration::from_secs(15);

/// The head of a response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The status code; 0 if the connection or stream ended without one.
    pub status: u16,
    /// The header section as text. Empty for HTTP/2, because header compression is not decoded here.
    pub headers: String,
    /// The bytes of the body that arrived together with the head.
    pub body: Vec<u8>,
}

impl Head {
    /// Returns the first header with that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.headers.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends bytes and reads the head of the response. Skips an interim response (100).
///
/// # Errors
/// If nothing listens there, or no response arrives in time.
pub async fn exchange(at: SocketAddr, bytes: &[u8]) -> Result<(Head, TcpStream)> {
    let mut stream = TcpStream::connect(at).await?;
    // A gateway that refuses early may close the connection before it has read everything, so a failed write is no
    // error.
    let sent = stream.write_all(bytes).await;
    let head = timeout(PATIENCE, head(&mut stream)).await.with_context(|| format!("no answer from {at}"))?;
    match (head, sent) {
        (Ok(head), _) => Ok((head, stream)),
        (Err(_), _) => Ok((Head::default(), stream)),
    }
}

async fn head(stream: &mut TcpStream) -> Result<Head> {
    let mut read = Vec::new();
    loop {
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            let headers = String::from_utf8_lossy(&read).into_owned();
            let status = headers.split(' ').nth(1).context("no status")?.parse()?;
            if status == 100 {
                read = body;
                continue;
            }
            return Ok(Head { status, headers, body });
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await? {
            0 => bail!("ended"),
            n => read.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Sends bytes over an upgraded connection and waits for the same number of bytes back.
///
/// # Errors
/// If the connection ends first, or nothing arrives in time.
pub async fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.context("nothing came back")??;
    Ok(back)
}

/// An HTTP/2 request: header section with pseudo-headers first, body, trailers. Headers are not compressed.
#[derive(Clone, Debug, Default)]
pub struct Http2 {
    /// The header section, including pseudo-headers such as `:method`.
    pub headers: Vec<(String, String)>,
    /// The body. Without one, the headers end the request unless `open` is set.
    pub body: Option<Vec<u8>>,
    /// The trailer section.
    pub trailers: Vec<(String, String)>,
    /// `true` if the request is left open: the stream is a tunnel (RFC 8441).
    pub open: bool,
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Http2 {
    /// Sends the request over its own connection with prior knowledge (RFC 9113 §3.3). Only the status of the response
    /// is read.
    ///
    /// # Errors
    /// If nothing listens there, or no response arrives in time.
    pub async fn send(&self, at: SocketAddr) -> Result<Head> {
        let mut stream = TcpStream::connect(at).await?;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        let ends = self.body.is_none() && self.trailers.is_empty() && !self.open;
        bytes.extend(frame(HEADERS, END_HEADERS | u8::from(ends), 1, &block(&self.headers)));
        if let Some(body) = &self.body {
            bytes.extend(frame(0, u8::from(self.trailers.is_empty()), 1, body));
        }
        if !self.trailers.is_empty() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&self.trailers)));
        }
        stream.write_all(&bytes).await?;
        let status = timeout(PATIENCE, status(&mut stream)).await.with_context(|| format!("no answer from {at}"))?;
        Ok(Head { status: status.unwrap_or(0), ..Default::default() })
    }
}

async fn status(stream: &mut TcpStream) -> Result<u16> {
    let mut header = [0; 9];
    loop {
        stream.read_exact(&mut header).await?;
        if header.starts_with(b"HTTP/1.") {
            let mut rest = [0; 3];
            stream.read_exact(&mut rest).await?;
            return Ok(std::str::from_utf8(&rest)?.parse()?);
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut payload).await?;
        match header[3] {
            HEADERS => return status_of(&payload),
            RST_STREAM | GOAWAY => return Ok(0),
            // Some servers wait for the acknowledgement of their settings.
            SETTINGS if header[4] == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Encodes fields as literals without indexing (RFC 7541 §6.2.2).
fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short field");
            block.push(length);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Decodes the status at the start of a header block: indexed, or a literal with or without Huffman coding.
fn status_of(block: &[u8]) -> Result<u16> {
    let updates = block.iter().take_while(|byte| *byte & 0xe0 == 0x20).count();
    match &block[updates..] {
        [indexed @ 0x88..=0x8e, ..] => Ok([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 3, digits @ ..] => Ok(std::str::from_utf8(&digits[..3])?.parse()?),
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, length, coded @ ..] if length & 0x80 != 0 => {
            let bits: String = coded[..usize::from(length & 0x7f)].iter().map(|byte| format!("{byte:08b}")).collect();
            let mut rest = bits.as_str();
            let mut number = 0;
            for _ in 0..3 {
                // In the Huffman code, the digits 0 to 2 have five bits, and 3 to 9 have six (RFC 7541, appendix B).
                let (digit, length) = match u16::from_str_radix(&rest[..5], 2)? {
                    small @ 0..=2 => (small, 5),
                    _ => (u16::from_str_radix(&rest[..6], 2)? - 0x19 + 3, 6),
                };
                number = number * 10 + digit;
                rest = &rest[length..];
            }
            Ok(number)
        }
        other => bail!("no status in {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_decoded_from_each_of_its_three_encodings() {
        assert_eq!(status_of(&[0x88]).unwrap(), 200);
        assert_eq!(status_of(&[0x20, 0x8c, 1]).unwrap(), 400);
        assert_eq!(status_of(b"\x08\x03403").unwrap(), 403);
        // The example of RFC 7541, C.6.1: 302 is 6402.
        assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]).unwrap(), 302);
        // Go refers to the last entry of the static table with that name.
        assert_eq!(status_of(&[0x4e, 0x82, 0x64, 0x02]).unwrap(), 302);
        assert!(status_of(&[]).is_err());
    }
}
