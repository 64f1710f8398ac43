//! Envoy, with the configuration that the docs show.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::keyward::workspace;
use crate::process::Process;
use crate::{parts, postgres};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// Where it listens for clients.
    pub at: SocketAddr,
    /// The process.
    pub process: Process,
    _dir: TempDir,
}

impl Envoy {
    /// Starts `deploy/envoy/envoy.yaml`, its addresses alone replaced, and waits until it serves.
    ///
    /// # Panics
    /// When the configuration does not name an address that it must, or Envoy does not start.
    pub fn start(validator: SocketAddr, upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gateway, admin) = (postgres::free_port().unwrap(), postgres::free_port().unwrap());
        let mut text = std::fs::read_to_string(workspace().join("deploy/envoy/envoy.yaml")).unwrap();
        for (documented, real) in [(8080, gateway), (8081, upstream.port()), (8089, admin), (8520, validator.port())] {
            let pattern = format!("port_value: {documented}");
            assert!(text.contains(&pattern), "deploy/envoy/envoy.yaml does not name port {documented}");
            text = text.replace(&pattern, &format!("port_value: {real}"));
        }
        let config = dir.path().join("envoy.yaml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(parts::envoy());
        command.arg("-c").arg(&config).args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]);
        let mut process = Process::start(&mut command, &dir.path().join("envoy.log"));
        let at = SocketAddr::from(([127, 0, 0, 1], gateway));
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        process.wait_for("a healthy validator", |_| healthy(admin).then_some(()));
        Self { at, process, _dir: dir }
    }
}

/// Whether every cluster has a healthy host, as Envoy's admin page tells.
fn healthy(admin: SocketAddr) -> bool {
    use std::io::{Read, Write};
    const ASK: &[u8] = b"GET /clusters HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n";
    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { return false };
    let mut page = String::new();
    let asked = stream.write_all(ASK).and_then(|()| stream.read_to_string(&mut page));
    let flags: Vec<_> = page.lines().filter(|line| line.contains("::health_flags::")).collect();
    asked.is_ok() && flags.len() >= 2 && flags.iter().all(|line| line.ends_with("::healthy"))
}
