//! The check of a request's host. A page in a browser can use any host name that resolves to this machine, but it
//! cannot choose the `Host` header: the server refuses names that are not ours.

use std::net::{IpAddr, SocketAddr};

/// Returns true if `host` (a name or an address, with or without a port) is this server: a loopback address, the
/// address that the client reached, the unspecified address (our own commands use it to reach a service on 0.0.0.0),
/// `localhost`, or one of `names`.
pub(super) fn is_ours(host: &str, local: IpAddr, names: &[String]) -> bool {
    let Some(name) = without_port(host) else { return false };
    if let Ok(address) = name.parse::<IpAddr>() {
        let address = address.to_canonical();
        let is_address = address.is_loopback() || address.is_unspecified() || address == local.to_canonical();
        return is_address || is_named(name, names);
    }
    name.eq_ignore_ascii_case("localhost") || is_named(name, names)
}

fn is_named(name: &str, names: &[String]) -> bool {
    names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Returns the name or address of `name:port`, `[address]:port`, or either alone; `None` if it has another form.
fn without_port(host: &str) -> Option<&str> {
    let is_port = |text: &str| text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        let is_whole = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        return is_whole.then_some(address);
    }
    let name = match host.split_once(':') {
        None => host,
        Some((name, port)) => is_port(port).then_some(name)?,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// Returns the names of a server: the configured ones, and the name of this machine.
pub(super) fn names(configured: &[String], listens_on: SocketAddr) -> Vec<String> {
    let mut names = configured.to_vec();
    // A server that listens on loopback only is reached as localhost.
    if !listens_on.ip().is_loopback() {
        names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_and_addresses_are_ours() {
        let names = ["harvester".to_owned(), "10.0.0.9".to_owned()];
        let local: IpAddr = "10.1.2.3".parse().unwrap();
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "localhost.:80",
            "127.0.0.1:9464",
            "127.0.0.2",
            "[::1]:9464",
            "0.0.0.0:9464",
            "[::]:9464",
            "10.1.2.3:9464",
            "[::ffff:10.1.2.3]",
            "harvester:9464",
            "Harvester",
            "10.0.0.9:1",
        ] {
            assert!(is_ours(host, local, &names), "{host}");
        }
        for host in [
            "",
            ":9464",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "harvester.evil.example",
            "10.1.2.4",
            "8.8.8.8:9464",
            "[::2]",
            "[::1]x",
            "[::1",
            "localhost:",
            "localhost:+1",
            "localhost:70000",
            "localhost:80:80",
            "user@localhost",
        ] {
            assert!(!is_ours(host, local, &names), "{host}");
        }
    }
}
