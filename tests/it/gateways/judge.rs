//! Checks a request that reached the upstream, as each kind of upstream would read it.

use std::collections::BTreeSet;

use keyward_tests::gateway::Kind;
use keyward_tests::recorder::Recorded;

use super::hostile::Tokens;
use super::rows::Row;

/// The token of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    /// No token.
    Anonymous,
    /// A valid token of project 7777.
    Foreign,
    /// A valid token of project 6666.
    Good,
}

/// Returns the faults of a request that reached the upstream.
pub(super) fn judge(request: &Recorded, kind: Kind, caller: Caller, row: &Row, tokens: &Tokens) -> Vec<String> {
    let mut faults = Vec::new();
    let readings = readings(request.target());
    let below = |path: &str, prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    let public = readings.iter().all(|path| below(path, "/public"));
    let protected = readings.iter().find(|path| below(path, "/only-6666"));
    match (caller, protected) {
        (Caller::Anonymous, _) if !public => {
            faults.push(format!("without a token: {} reads as {readings:?}", request.line));
        }
        (Caller::Foreign, Some(path)) => {
            faults.push(format!("with another project's token: {} is {path}", request.line));
        }
        _ => {}
    }
    let seen = identity(request, kind);
    let wanted: &[_] = match caller {
        _ if public => &[],
        Caller::Anonymous => &[],
        Caller::Foreign => &[("x-keyward-key", "foreign"), ("x-keyward-project", "7777")],
        Caller::Good => &[("x-keyward-key", "server_prod"), ("x-keyward-project", "6666")],
    };
    if seen != wanted {
        faults.push(format!("the upstream got the identity {seen:?} instead of {wanted:?}"));
    }
    if !public && leaks(request, tokens) {
        faults.push("a token reached the upstream".to_owned());
    }
    let aliases = request.headers.iter().filter(|(name, _)| is_alias(name));
    let credentials = request.trailers.iter().filter(|(name, _)| folded(name) == "x_api_key");
    if let Some((name, _)) = aliases.chain(credentials).next() {
        faults.push(format!("{name} reached the upstream"));
    }
    faults.extend(hop_by_hop(request, row));
    faults
}

/// Returns every path that some kind of upstream reads from a request target.
fn readings(target: &str) -> BTreeSet<String> {
    let target = target.split_once("://").map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(rest.len())..]);
    let path = target.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    // The kinds: plain; a servlet container, which removes path parameters before or after decoding; and one that
    // decodes twice.
    let mut all = BTreeSet::from([path.clone()]);
    let (once, cut) = (decoded(&path), without_parameters(&path));
    for read in [once.clone(), cut.clone(), decoded(&cut), without_parameters(&once), decoded(&once)] {
        for read in [read.clone(), without_parameters(&read)] {
            let read = read.replace('\\', "/");
            let read = read.split('\0').next().unwrap_or_default();
            all.insert(resolved(read));
        }
    }
    all.into_iter().map(|path| path.trim_end_matches(['.', ' ']).to_owned()).collect()
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

/// Percent-decodes a path. Overlong UTF-8 and incomplete escapes are read as lenient decoders read them.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
        match (first, tail.get(..2).and_then(hex), tail.get(3..5).and_then(hex)) {
            (b'%', Some(lead @ 0xc0..=0xc1), Some(next)) if tail.get(2) == Some(&b'%') => {
                bytes.push((lead << 6) | (next & 0x3f));
                rest = &tail[5..];
            }
            (b'%', Some(byte), _) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

/// Resolves empty segments and dot segments.
fn resolved(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Returns a header's name as CGI, PHP and WSGI read it: every character but letters and digits is the same.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Returns every header and trailer that some upstream would take for the caller's identity, sorted. Some upstreams
/// merge trailers into headers. nginx cannot remove headers by prefix, so for nginx only the names that Keyward uses
/// count.
fn identity(request: &Recorded, kind: Kind) -> Vec<(&str, &str)> {
    let all = request.headers.iter().chain(&request.trailers);
    let used = ["x_keyward_project", "x_keyward_key", "x_keyward_status"];
    let ours = all.filter(|(name, _)| match folded(name).as_str() {
        name if kind == Kind::Nginx => used.contains(&name),
        name => name.starts_with("x_keyward"),
    });
    let mut ours: Vec<_> = ours.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    ours.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    // nginx and Caddy write these names in another case.
    let canonical = ["x-keyward-key", "x-keyward-project"];
    let known = |name: &str| canonical.into_iter().find(|each| each.eq_ignore_ascii_case(name));
    ours.into_iter().map(|(name, value)| (known(name).unwrap_or(name), value)).collect()
}

/// Returns `true` if the name is another spelling of a header that carries a credential.
fn is_alias(name: &str) -> bool {
    folded(name) == "x_api_key" && !name.eq_ignore_ascii_case("x-api-key")
}

fn leaks(request: &Recorded, tokens: &Tokens) -> bool {
    let values = request.headers.iter().chain(&request.trailers).map(|(_, value)| value);
    let secrets = [&tokens.good, &tokens.foreign];
    values.chain([&request.line]).any(|text| secrets.iter().any(|secret| text.contains(*secret)))
}

/// Returns faults in hop-by-hop headers: any upgrade but WebSocket, and any `connection` option that makes the next hop
/// remove a header.
fn hop_by_hop(request: &Recorded, row: &Row) -> Vec<String> {
    let mut faults = Vec::new();
    let harmless = ["keep-alive", "close", "upgrade", "te", ""];
    for word in request.header("connection").flat_map(|value| value.split(',')).map(str::trim) {
        if !harmless.iter().any(|each| each.eq_ignore_ascii_case(word)) {
            faults.push(format!("connection names {word}"));
        }
    }
    let upgrades: Vec<_> = request.header("upgrade").collect();
    if !(upgrades.is_empty()
        || row.websocket && matches!(upgrades.as_slice(), [one] if one.eq_ignore_ascii_case("websocket")))
    {
        faults.push(format!("upgrade: {upgrades:?} reached the upstream"));
    }
    if request.line.starts_with("CONNECT") {
        faults.push(format!("{} reached the upstream", request.line));
    }
    faults
}

#[test]
fn a_request_is_read_as_every_kind_of_upstream_reads_it() {
    for protected in [
        "/only-6666",
        "/ONLY-6666/x?y",
        "/only%2d6666",
        "/only-6666;a=b",
        "/;/only-6666",
        "/public/..;/only-6666",
        "/public/%2e%2e;x/only-6666",
        "/public/..%3b/only-6666",
        "/x%3b/..;/only-6666",
        "/public/..%252fonly-6666",
        "/public/..%5conly-6666",
        "/public\\..\\only-6666",
        "/public/%c0%ae%c0%ae/only-6666",
        "/only-6666%00.css",
        "/only-6666.",
        "http://keyward.test/public/../only-6666",
    ] {
        assert!(readings(protected).iter().any(|path| path.starts_with("/only-6666")), "{protected}");
    }
    assert_eq!(readings("/public/x"), BTreeSet::from(["/public/x".to_owned()]));
    assert_eq!(folded("X.Keyward~Project"), "x_keyward_project");
    assert!(is_alias("X_Api_Key") && is_alias("x.api-key") && !is_alias("X-Api-Key") && !is_alias("xapikey"));
}
