//! What commands do where streams hold the greatest id that there is, or are no streams.

use crate::support::binary::{harvester, run};
use crate::support::redis::RedisServer;
use crate::support::service::{CONTROL, DECISION, RESULT, price};

const GREATEST: &str = "18446744073709551615-18446744073709551615";

/// An audit reads on, names what it cannot see, and takes the address with a space or a `=`. The kill key is set whatever becomes
/// of the entry, and that is what is said. A doctor names each stream.
#[test]
fn commands_name_the_streams_that_take_nothing_and_go_on() {
    for is_exhausted in [true, false] {
        let server = RedisServer::start();
        price(&server, "AAAUSDT", "1");
        for stream in [CONTROL, RESULT, DECISION] {
            if is_exhausted {
                server.cli(&["XADD", stream, GREATEST, "event_type", "note", "payload", "{}"]);
            } else {
                server.cli(&["SET", stream, "no stream"]);
            }
        }
        for arguments in [vec![format!("--redis={}", server.url())], vec!["--redis".to_owned(), server.url()]] {
            let ran = run(harvester().arg("audit").args(arguments));
            assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
            assert!(is_exhausted || ran.out.contains("no stream"), "{}", ran.out);
        }
        let ran = run(harvester().args(["doctor", "--redis", &server.url()]));
        assert_eq!(ran.code, Some(1), "{}", ran.log);
        let fault = if is_exhausted { "ids_exhausted" } else { "not a stream" };
        for stream in [CONTROL, RESULT, DECISION] {
            let is_named = ran.out.lines().any(|line| line.contains(stream) && line.contains(fault));
            assert!(is_named, "{stream}: {}", ran.out);
        }
        let ran =
            run(harvester().args(["control", "kill", "on", "--reason", "test", "--yes", "--redis", &server.url()]));
        assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
        assert!(ran.out.contains("The kill key is set to 1."), "{}", ran.out);
        assert!(ran.out.contains("could not be appended") && ran.out.contains(CONTROL), "{}", ran.out);
        assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "1");
        let ran =
            run(harvester().args(["control", "gap-accept", "--reason", "test", "--yes", "--redis", &server.url()]));
        assert_eq!(ran.code, Some(2), "{} {}", ran.out, ran.log);
        assert!(ran.log.contains("nothing was written") && ran.log.contains(CONTROL), "{}", ran.log);
    }
}
