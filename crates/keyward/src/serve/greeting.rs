use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use keyward_runtime::config::Listen;
use keyward_token::Token;

use crate::cli::client::DEFAULT_ADMIN;
use crate::serve::options::DEFAULT_DATA_DIR;

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
    /// else it would end up in a log.
    pub(super) fn print(self) -> anyhow::Result<()> {
        let out = std::io::stdout();
        let terminal = out.is_terminal();
        let mut out = out.lock();
        writeln!(out, "\nKeyward is ready.")?;
        match &self.new_root {
            Some(root) if terminal => {
                writeln!(
                    out,
                    "\nThe root member's credential, shown this once and kept in {}:",
                    self.credential_file.display()
                )?;
                writeln!(out, "  {}", root.expose())?;
            }
            _ => writeln!(out, "The root member's credential is in {}", self.credential_file.display())?,
        }
        let keyward = std::env::args().next().unwrap_or_else(|| "keyward".to_owned());
        let flags = self.flags();
        writeln!(out, "\nNext, in another terminal:")?;
        writeln!(out, "  {keyward} projects create 6666{flags}")?;
        writeln!(out, "  TOKEN=$({keyward} keys create server_prod --project 6666{flags})")?;
        writeln!(out, "  {}", self.curl())?;
        Ok(out.flush()?)
    }

    /// What the commands must be told because it is not the default.
    fn flags(&self) -> String {
        let mut flags = String::new();
        if let Listen::Tcp(address) = &self.admin_at {
            let url = format!("http://{address}");
            if url != DEFAULT_ADMIN {
                flags.push_str(&format!(" --admin {url}"));
            }
        }
        if self.data_dir != Path::new(DEFAULT_DATA_DIR) {
            flags.push_str(&format!(" --credential-file {}", self.credential_file.display()));
        }
        flags
    }

    fn curl(&self) -> String {
        match &self.hook_at {
            Listen::Tcp(address) => format!("curl -i -H \"x-api-key: $TOKEN\" http://{address}/auth"),
            Listen::Unix(path) => {
                format!("curl -i -H \"x-api-key: $TOKEN\" --unix-socket {} http://keyward/auth", path.display())
            }
        }
    }
}
