use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use keyward_admin::PublicUrl;
use keyward_runtime::config::Listen;
use keyward_token::Token;

use crate::defaults;

/// What a newcomer reads once everything is ready.
pub(super) struct Greeting {
    /// Set at the first start.
    pub(super) new_root: Option<Token>,
    pub(super) credential_file: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) admin_at: Listen,
    pub(super) hook_at: Listen,
}

impl Greeting {
    /// Prints it to stdout. The credential itself is shown on a terminal only, and only at the first start: anywhere
    /// else it would end up in a log. A stdout that nobody reads is no reason to stop serving.
    pub(super) fn print(self) {
        if let Err(error) = self.try_print() {
            tracing::info!(%error, "nobody reads stdout");
        }
    }

    fn try_print(&self) -> std::io::Result<()> {
        let out = std::io::stdout();
        let terminal = out.is_terminal();
        let mut out = out.lock();
        let file = self.credential_file.display();
        writeln!(out, "\nKeyward is ready.")?;
        match &self.new_root {
            Some(root) if terminal => {
                writeln!(out, "\nThe root member's credential, shown this once and kept in {file}:")?;
                writeln!(out, "  {}", root.expose())?;
            }
            _ if self.credential_file.exists() => writeln!(out, "The root member's credential is in {file}")?,
            _ => writeln!(out, "The root member's credential was in {file}, which is gone")?,
        }
        let keyward = std::env::args().next().unwrap_or_else(|| "keyward".to_owned());
        writeln!(out, "\nNext, in another terminal:")?;
        match self.flags() {
            Some(flags) => {
                writeln!(out, "  {keyward} projects create 6666{flags}")?;
                writeln!(out, "  TOKEN=$({keyward} keys create server_prod --project 6666{flags})")?;
            }
            None => writeln!(
                out,
                "  (the admin API is at {}, which these commands cannot reach: use grpcurl)",
                self.admin_at
            )?,
        }
        writeln!(out, "  {}", self.curl())?;
        out.flush()
    }

    /// What the commands must be told because it is not the default. `None`: they speak TCP only.
    fn flags(&self) -> Option<String> {
        let Listen::Tcp(address) = &self.admin_at else { return None };
        let mut flags = String::new();
        let url = format!("http://{}", reachable(*address));
        if url != defaults::ADMIN {
            flags.push_str(&format!(" --admin {url}"));
        }
        if self.data_dir != Path::new(defaults::DATA_DIR) {
            flags.push_str(&format!(" --credential-file {}", self.credential_file.display()));
        }
        Some(flags)
    }

    fn curl(&self) -> String {
        match &self.hook_at {
            Listen::Tcp(address) => format!("curl -i -H \"x-api-key: $TOKEN\" {}", url_at(*address)),
            Listen::Unix(path) => {
                format!("curl -i -H \"x-api-key: $TOKEN\" --unix-socket {} http://keyward/auth", path.display())
            }
        }
    }
}

/// Where this machine reaches the hook; none when it is a Unix socket.
pub(super) fn hook_url(hook_at: &Listen) -> Option<PublicUrl> {
    let Listen::Tcp(address) = hook_at else { return None };
    url_at(*address).parse().ok()
}

fn url_at(hook: SocketAddr) -> String {
    format!("http://{}/auth", reachable(hook))
}

/// Where this machine reaches a listener; one on every address is on loopback too.
const fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), v6.port()),
        address => address,
    }
}
