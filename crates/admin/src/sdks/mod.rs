//! The setup grid. Snippets are complete programs that read the token from the environment, because people save what they
//! paste in files.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use keyward_domain::Platform;
use serde::Deserialize;

/// Base URL of the API that keys give access to, which the snippets call.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct PublicUrl(String);

/// The URL of the public API is not acceptable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadUrl;

/// One card of the grid.
#[derive(Clone, Debug)]
pub(crate) struct Sdk {
    pub(crate) id: &'static str,
    pub(crate) display_name: &'static str,
    pub(crate) platform: Platform,
    /// Empty while the SDK is coming soon.
    pub(crate) snippets: Vec<Snippet>,
}

/// A program to copy and paste.
#[derive(Clone, Debug)]
pub(crate) struct Snippet {
    pub(crate) title: &'static str,
    pub(crate) language: &'static str,
    pub(crate) text: String,
}

/// The cards in the order of display.
pub(crate) fn grid(url: &PublicUrl) -> Vec<Sdk> {
    let ready =
        |id, display_name, snippet| Sdk { id, display_name, platform: Platform::Server, snippets: vec![snippet] };
    let soon = |id, display_name, platform| Sdk { id, display_name, platform, snippets: Vec::new() };
    vec![
        ready("go", "Go", url.snippet("Go, standard library", "go", include_str!("main.go"))),
        ready("http", "HTTP", url.snippet("curl", "sh", include_str!("curl.sh"))),
        soon("android", "Android", Platform::Android),
        soon("ios", "iOS", Platform::Ios),
        soon("javascript", "JavaScript", Platform::Javascript),
        soon("cpp", "C++", Platform::Server),
    ]
}

impl PublicUrl {
    fn snippet(&self, title: &'static str, language: &'static str, template: &str) -> Snippet {
        Snippet { title, language, text: template.replace("PUBLIC_API_URL", &self.0) }
    }
}

impl Default for PublicUrl {
    /// The HTTP hook of a validator at its default address, which answers 200 to a valid key.
    fn default() -> Self {
        Self("http://127.0.0.1:8521/auth".to_owned())
    }
}

impl FromStr for PublicUrl {
    type Err = BadUrl;

    /// Accepts an http or https URL without characters that would end a quoted string in a shell or in Go.
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@&+,;=%".contains(&b);
        let uri: http::Uri = text.parse().map_err(|_| BadUrl)?;
        let web = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
        // The URL is shown to every member, and a user part may hold a password.
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if web && !has_user && text.bytes().all(plain) { Ok(Self(text.to_owned())) } else { Err(BadUrl) }
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        text.parse()
    }
}

impl Display for BadUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("the public API's URL is http or https, without a user, of letters, digits and -._~:/?#[]@&+,;=%")
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn snippets_call_the_public_api_and_hold_no_token() {
        let url: PublicUrl = "https://api.example.com/v1/ping".parse().unwrap();
        for sdk in grid(&url) {
            for snippet in sdk.snippets {
                assert!(snippet.text.contains("https://api.example.com/v1/ping"), "{}", snippet.text);
                assert!(snippet.text.contains("API_TOKEN") && !snippet.text.contains("PUBLIC_API_URL"));
            }
        }
    }

    #[test]
    fn urls_that_could_break_out_of_quotes_are_refused() {
        for bad in [
            "",
            "api.example.com",
            "ftp://a/",
            "http://u:p@a/",
            "http://",
            "http://a/$(id)",
            "http://a/'",
            "http://a/\"",
            "http://a/ b",
        ] {
            assert_eq!(bad.parse::<PublicUrl>(), Err(BadUrl), "{bad}");
        }
    }
}
