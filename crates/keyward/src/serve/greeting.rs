use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use keyward_admin::PublicUrl;
use keyward_runtime::config::Listen;
use keyward_token::Token;

use crate::defaults;

/// The text that `serve` prints once it is ready: the first commands to try.
pub(super) struct Greeting {
    /// The root credential, if this start created it.
    pub(super) new_root: Option<Token>,
    pub(super) credential_file: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) admin_at: Listen,
    pub(super) hook_at: Listen,
}

impl Greeting {
    /// Prints the text to stdout. The credential is shown only at the first start, and only on a terminal: elsewhere it would
    /// end up in a log. A closed stdout does not stop the server.
    pub(super) fn print(self) {
        if let Err(error) = self.try_print() {
            tracing::info!(%error, "cannot write to stdout");
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
                writeln!(out, "\nThe root member's credential, shown only now and stored in {file}:")?;
                writeln!(out, "  {}", root.expose())?;
            }
            _ if self.credential_file.exists() => writeln!(out, "The root member's credential is in {file}")?,
            _ => writeln!(out, "The root member's credential was stored in {file}, which is missing")?,
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
                "  (the admin API listens on {}, which these commands cannot reach: use grpcurl)",
                self.admin_at
            )?,
        }
        writeln!(out, "  {}", self.curl())?;
        out.flush()
    }

    /// Returns the flags that differ from the defaults. `None` if the admin listens on a Unix socket, which the commands do not
    /// support.
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

/// Returns the URL at which this machine reaches the hook, or `None` for a Unix socket.
pub(super) fn hook_url(hook_at: &Listen) -> Option<PublicUrl> {
    let Listen::Tcp(address) = hook_at else { return None };
    url_at(*address).parse().ok()
}

fn url_at(hook: SocketAddr) -> String {
    format!("http://{}/auth", reachable(hook))
}

/// Returns the address at which this machine reaches a listener: loopback for a listener on all addresses.
const fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), v6.port()),
        address => address,
    }
}
