//! Real gateways, with the configurations that the docs show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::keyward::{Serve, Validator, workspace};
use crate::process::Process;
use crate::{parts, postgres};

/// A gateway that Keyward has a configuration for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Envoy, asking by gRPC.
    Envoy,
    /// Envoy, asking by HTTP.
    EnvoyHttp,
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
}

/// Where a gateway finds a validator.
#[derive(Clone, Copy, Debug)]
pub struct ValidatorAt {
    /// Its gRPC.
    pub grpc: SocketAddr,
    /// Its HTTP hook.
    pub hook: SocketAddr,
    /// Its ops listener.
    pub ops: SocketAddr,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens for clients.
    pub at: SocketAddr,
    /// The process.
    pub process: Process,
    /// Where Envoy tells about itself.
    admin: SocketAddr,
    _dir: TempDir,
}

impl Kind {
    /// Every gateway.
    pub const ALL: [Self; 5] = [Self::Envoy, Self::EnvoyHttp, Self::Nginx, Self::Caddy, Self::Haproxy];

    /// Its configuration under `deploy/`, and what else is read from beside that.
    const fn files(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Envoy => ("envoy/envoy.yaml", None),
            Self::EnvoyHttp => ("envoy/envoy-http.yaml", None),
            Self::Nginx => ("nginx/nginx.conf", Some("nginx/keyward.conf")),
            Self::Caddy => ("caddy/Caddyfile", None),
            Self::Haproxy => ("haproxy/haproxy.cfg", None),
        }
    }

    /// What the docs tell people to run, with `config` for the file.
    fn command(self, config: &Path) -> Command {
        let dir = config.parent().unwrap_or(config);
        match self {
            Self::Envoy | Self::EnvoyHttp => {
                let mut command = Command::new(parts::envoy());
                command.arg("-c").arg(config);
                command.args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]);
                command
            }
            Self::Nginx => {
                let mut command = parts::nginx().command("nginx");
                command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(config);
                command
            }
            Self::Caddy => {
                let mut command = Command::new(parts::caddy());
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config).env("HOME", dir);
                command
            }
            Self::Haproxy => {
                let mut command = parts::haproxy().command("haproxy");
                // It reads the Lua file from where the docs say to start it.
                command.arg("-f").arg(config).current_dir(workspace());
                command
            }
        }
    }
}

impl ValidatorAt {
    /// The validator within a `keyward serve`.
    pub fn in_serve(serve: &Serve) -> Self {
        Self { grpc: serve.validator, hook: serve.hook, ops: serve.validator_ops }
    }

    /// A validator of its own.
    pub fn of(validator: &Validator) -> Self {
        Self { grpc: validator.grpc, hook: validator.hook, ops: validator.ops }
    }
}

impl Gateway {
    /// Starts one with its configuration from `deploy/`, its addresses alone replaced, and waits until it serves. Of
    /// several validators only Envoy by gRPC is told of all.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(kind: Kind, validators: &[ValidatorAt], upstream: SocketAddr) -> Self {
        Self::start_edited(kind, validators, upstream, str::to_owned)
    }

    /// Like [`Gateway::start`], with a change to the configuration that the docs tell an operator to make.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_edited(
        kind: Kind,
        validators: &[ValidatorAt],
        upstream: SocketAddr,
        edit: impl FnOnce(&str) -> String,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gateway, admin) = (postgres::free_port().unwrap(), postgres::free_port().unwrap());
        let (file, beside) = kind.files();
        let deploy = workspace().join("deploy");
        let mut text = String::new();
        for line in std::fs::read_to_string(deploy.join(file)).unwrap().lines() {
            let of_each =
                if line.contains("- endpoint:") && line.contains("8520") { validators } else { &validators[..1] };
            for validator in of_each {
                let (grpc, hook, ops) = (validator.grpc.port(), validator.hook.port(), validator.ops.port());
                let upstream = upstream.port();
                let real = [(8080, gateway), (8081, upstream), (8089, admin), (8520, grpc), (8521, hook), (8529, ops)];
                text.push_str(&with_ports(line, &real));
                text.push('\n');
            }
        }
        let config = dir.path().join(Path::new(file).file_name().unwrap());
        std::fs::write(&config, edit(&text)).unwrap();
        if let Some(beside) = beside {
            std::fs::copy(deploy.join(beside), dir.path().join(Path::new(beside).file_name().unwrap())).unwrap();
        }
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let process = Process::start(&mut kind.command(&config), &dir.path().join("gateway.log"));
        let mut gateway = Self { at: at(gateway), process, admin: at(admin), _dir: dir };
        gateway.wait_until_it_serves(kind);
        gateway
    }

    fn wait_until_it_serves(&mut self, kind: Kind) {
        let (at, admin) = (self.at, self.admin);
        if matches!(kind, Kind::Envoy | Kind::EnvoyHttp) {
            self.process.wait_for("healthy validators", |_| health(admin).healthy().then_some(()));
        } else {
            self.process.wait_for("the gateway", |_| TcpStream::connect(at).ok());
        }
    }

    /// What Envoy thinks of the hosts that it knows.
    pub fn health(&self) -> Health {
        health(self.admin)
    }
}

/// What Envoy's admin page tells of every host: its address and its health.
#[derive(Debug)]
pub struct Health(Vec<(String, String)>);

impl Health {
    /// Whether all are healthy: the upstream, and a validator or more.
    pub fn healthy(&self) -> bool {
        self.0.len() >= 2 && self.0.iter().all(|(_, flags)| flags == "healthy")
    }

    /// Whether that host is healthy.
    pub fn of(&self, host: SocketAddr) -> bool {
        self.0.iter().any(|(address, flags)| *address == host.to_string() && flags == "healthy")
    }
}

fn health(admin: SocketAddr) -> Health {
    const ASK: &[u8] = b"GET /clusters HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n";
    let mut page = String::new();
    let asked = TcpStream::connect(admin).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(ASK)?;
        stream.read_to_string(&mut page)
    });
    let host = |line: &str| {
        let (host, flags) = line.split_once("::health_flags::")?;
        let (_, address) = host.split_once("::")?;
        Some((address.to_owned(), flags.trim().to_owned()))
    };
    Health(if asked.is_ok() { page.lines().filter_map(host).collect() } else { Vec::new() })
}

/// Replaces whole numbers.
fn with_ports(line: &str, ports: &[(u16, u16)]) -> String {
    let mut result = String::new();
    let mut rest = line;
    while let Some(from) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
        let (before, number) = (&rest[..from], &rest[from..from + digits]);
        let real = ports.iter().find(|(documented, _)| documented.to_string() == number);
        result.push_str(before);
        result.push_str(&real.map_or_else(|| number.to_owned(), |(_, real)| real.to_string()));
        rest = &rest[from + digits..];
    }
    result + rest
}
