/// Whether the host of a URL is this machine, so that a secret sent there in plaintext stays on it. Names other than
/// `localhost` are not looked up.
pub fn is_local(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
