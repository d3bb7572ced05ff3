//! Addresses of Redis: password, user of an access list, database, TLS. Each test has a real server.

use std::fs;
use std::path::Path;

use crate::support::binary::{Ran, harvester, name, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::root;
use crate::support::service::until;

const HISTORY: &str = "replay/incidents/i02_new_field_for_old_positions/events.jsonl";
const STREAM: &str = "quantum:stream:trade.intent";

/// Imports a small history; the address is in the environment, where an operator sets it.
fn import(url: &str, config: Option<&Path>) -> Ran {
    let mut command = harvester();
    command.arg("import").arg(root().join(HISTORY)).env("REDIS_URL", url);
    if let Some(config) = config {
        command.args(["--config", name(config)]);
    }
    let ran = run(&mut command);
    assert!(!format!("{}{}", ran.out, ran.log).contains("hush"), "a password is shown: {}{}", ran.out, ran.log);
    ran
}

fn done(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}", ran.log);
}

#[test]
fn a_password_and_a_database_are_part_of_the_address() {
    let server = RedisServer::start_with(&["--requirepass", "hush"]);
    let host = server.url().replace("redis://", "");
    done(&import(&format!("redis://:hush@{host}/2"), None));
    let of = |database: &str| server.cli(&["-a", "hush", "--no-auth-warning", "-n", database, "EXISTS", STREAM]);
    assert_eq!((of("0").trim(), of("2").trim()), ("0", "1"), "written into database 2 only");
    // The server answers with a refusal: that is a wrong setting, not a service out of reach.
    let wrong = import(&format!("redis://:hush-hush@{host}"), None);
    wrong.refused(&["refuses"]);
    let without = import(&format!("redis://{host}"), None);
    without.refused(&["NOAUTH"]);
    let nowhere = import(&format!("redis://:hush@{host}/99"), None);
    nowhere.refused(&["database"]);
}

#[test]
fn a_user_of_an_access_list_has_the_permissions_of_the_list() {
    let server = RedisServer::start();
    let list = [
        "ACL",
        "SETUSER",
        "writer",
        "on",
        ">hush",
        "resetkeys",
        "~quantum:*",
        "-@all",
        "+type",
        "+xinfo|stream",
        "+xlen",
        "+xadd",
    ];
    assert_eq!(server.cli(&list).trim(), "OK");
    let host = server.url().replace("redis://", "");
    done(&import(&format!("redis://writer:hush@{host}"), None));
    assert_eq!(server.cli(&["ACL", "SETUSER", "writer", "-xadd"]).trim(), "OK");
    server.cli(&["FLUSHALL"]);
    import(&format!("redis://writer:hush@{host}"), None).refused(&["no permissions to run the 'xadd' command"]);
}

#[test]
fn tls_trusts_the_certificates_of_the_configuration_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(file("ca.pem"), issuer.pem()).unwrap();
    fs::write(file("server.pem"), certificate.pem()).unwrap();
    fs::write(file("server.key"), key.serialize_pem()).unwrap();
    let port = free_port().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let mut settings = vec!["--tls-port", &port, "--tls-auth-clients", "no", "--requirepass", "hush"];
    settings.extend(["--tls-ca-cert-file", name(&ca), "--tls-cert-file", name(&certificate)]);
    settings.extend(["--tls-key-file", name(&key)]);
    let server = RedisServer::start_with(&settings);

    let trusting = file("harvester.toml");
    fs::write(&trusting, format!("[redis]\nca_file = {ca:?}\n")).unwrap();
    done(&import(&format!("rediss://:hush@localhost:{port}"), Some(&trusting)));
    assert_eq!(server.cli(&["-a", "hush", "--no-auth-warning", "EXISTS", STREAM]).trim(), "1");
    // No public authority has signed its certificate.
    let distrusted = import(&format!("rediss://:hush@localhost:{port}"), None);
    assert_eq!(distrusted.code, Some(3), "{}", distrusted.log);
    assert!(distrusted.log.contains("certificate"), "{}", distrusted.log);
    // Signed, under another name.
    let other = import(&format!("rediss://:hush@[::1]:{port}"), Some(&trusting));
    assert_eq!(other.code, Some(3), "{}", other.log);
    // A cluster of one node, which is found and used over TLS.
    let (of_node, bus) = (free_port().to_string(), free_port().to_string());
    settings[1] = &of_node;
    settings.extend(["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", "yes"]);
    let node = RedisServer::start_with(&settings);
    let cluster = |arguments: &[&str]| node.cli(&[&["-a", "hush", "--no-auth-warning", "CLUSTER"], arguments].concat());
    assert_eq!(cluster(&["ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
    until("the cluster is up", || cluster(&["INFO"]).contains("cluster_state:ok"));
    done(&import(&format!("rediss-cluster://:hush@localhost:{of_node}"), Some(&trusting)));
    assert_eq!(node.cli(&["-a", "hush", "--no-auth-warning", "EXISTS", STREAM]).trim(), "1");
    let refused = import(&format!("rediss-cluster://:wrong@localhost:{of_node}"), Some(&trusting));
    assert!(refused.log.contains("refuses us"), "{}", refused.log);
    node.cli(&["-a", "hush", "--no-auth-warning", "CONFIG", "SET", "tls-cluster", "no"]);
    node.cli(&["-a", "hush", "--no-auth-warning", "DEL", STREAM]);
    import(&format!("rediss-cluster://:hush@localhost:{of_node}"), Some(&trusting)).refused(&["set tls-cluster yes"]);
    fs::write(&trusting, "[redis]\nca_file = \"missing.pem\"\n").unwrap();
    let lost = import(&format!("rediss://:hush@localhost:{port}"), Some(&trusting));
    lost.refused(&["missing.pem"]);
}
