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

/// A gateway for which `deploy/` has a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Envoy, with its gRPC `ext_authz` filter.
    Envoy,
    /// Envoy, with its HTTP `ext_authz` filter.
    EnvoyHttp,
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
}

/// The addresses of a validator that a gateway needs.
#[derive(Clone, Copy, Debug)]
pub struct ValidatorAt {
    /// Address of its gRPC listener.
    pub grpc: SocketAddr,
    /// Address of its HTTP hook.
    pub hook: SocketAddr,
    /// Address of its ops listener.
    pub ops: SocketAddr,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Address on which it listens for clients.
    pub at: SocketAddr,
    /// The process.
    pub process: Process,
    /// Address of Envoy's own admin page; unused by the other gateways.
    admin: SocketAddr,
    _dir: TempDir,
}

impl Kind {
    /// Every gateway.
    pub const ALL: [Self; 5] = [Self::Envoy, Self::EnvoyHttp, Self::Nginx, Self::Caddy, Self::Haproxy];

    /// Returns the path of its configuration under `deploy/`, and of the file that this one includes.
    const fn files(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Envoy => ("envoy/envoy.yaml", None),
            Self::EnvoyHttp => ("envoy/envoy-http.yaml", None),
            Self::Nginx => ("nginx/nginx.conf", Some("nginx/keyward.conf")),
            Self::Caddy => ("caddy/Caddyfile", None),
            Self::Haproxy => ("haproxy/haproxy.cfg", None),
        }
    }

    /// Returns the command of the docs that starts the gateway with `config`.
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
                // The configuration names the Lua file relative to the workspace's root, where the docs start HAProxy.
                command.arg("-f").arg(config).current_dir(workspace());
                command
            }
        }
    }
}

impl ValidatorAt {
    /// Returns the addresses of the validator within a `keyward serve`.
    pub fn in_serve(serve: &Serve) -> Self {
        Self { grpc: serve.validator, hook: serve.hook, ops: serve.validator_ops }
    }

    /// Returns the addresses of a separate validator.
    pub fn of(validator: &Validator) -> Self {
        Self { grpc: validator.grpc, hook: validator.hook, ops: validator.ops }
    }
}

impl Gateway {
    /// Starts a gateway with its configuration from `deploy/` and waits until it serves. Only the ports in the
    /// configuration are replaced. Envoy by gRPC gets all `validators`; the others get the first.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(kind: Kind, validators: &[ValidatorAt], upstream: SocketAddr) -> Self {
        Self::start_edited(kind, validators, upstream, str::to_owned)
    }

    /// Like [`Gateway::start`], with an edit of the configuration that the docs recommend.
    ///
    /// # Panics
    /// If it does not start.
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

    /// Returns the health of every host that Envoy knows.
    pub fn health(&self) -> Health {
        health(self.admin)
    }
}

/// The hosts on Envoy's admin page: address and health flags.
#[derive(Debug)]
pub struct Health(Vec<(String, String)>);

impl Health {
    /// Returns `true` if the upstream and at least one validator are known, and all are healthy.
    pub fn healthy(&self) -> bool {
        self.0.len() >= 2 && self.0.iter().all(|(_, flags)| flags == "healthy")
    }

    /// Returns `true` if that host is healthy.
    pub fn of(&self, host: SocketAddr) -> bool {
        self.0.iter().any(|(address, flags)| *address == host.to_string() && flags == "healthy")
    }
}

fn health(admin: SocketAddr) -> Health {
    const REQUEST: &[u8] = b"GET /clusters HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n";
    let mut page = String::new();
    let fetched = TcpStream::connect(admin).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(REQUEST)?;
        stream.read_to_string(&mut page)
    });
    let host = |line: &str| {
        let (host, flags) = line.split_once("::health_flags::")?;
        let (_, address) = host.split_once("::")?;
        Some((address.to_owned(), flags.trim().to_owned()))
    };
    Health(if fetched.is_ok() { page.lines().filter_map(host).collect() } else { Vec::new() })
}

/// Replaces the documented ports in a line of configuration by the real ones. Only whole numbers are replaced.
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
