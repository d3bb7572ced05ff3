//! No instance can take the lease, and nothing else is wrong.

use serde_json::Value;

use crate::run::live_place;
use crate::support::binary::{harvester, name, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{
    CONTROL, DECISION, PLAN, RESULT, entries, is_read, open_position, price, until, until_leader,
};

/// Nobody can lead, and a decision that is due is not sent: the finding is that, and not that it may be executed.
#[test]
fn a_lease_that_a_stranger_holds_for_ever_is_a_finding_of_service_and_doctor() {
    let server = RedisServer::start();
    let mut place = live_place(&server, "apply_plan", PLAN);
    place.listen = format!("127.0.0.1:{}", free_port());
    place.settings = place.settings.replace("[policy]\n", "[policy]\nresult_timeout_ms = 1000\n");
    let service = place.start();
    until_leader(&service);
    until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
    open_position(&server, "AAAUSDT");
    until("the position is read", || is_read(&server, &[RESULT, CONTROL]));
    let lease = format!("{DECISION}:lease");
    server.cli(&["SET", &lease, "999 evil x"]);
    service.until_logged(&["role changed", "is_leader=false"]);
    price(&server, "AAAUSDT", "1.008");
    let status = || -> Value {
        let ran = run(harvester().args(["status", "--json", "--url", &format!("http://{}", place.listen)]));
        serde_json::from_str(&ran.out).unwrap_or_default()
    };
    let says = |status: &Value, name: &str| {
        let all = status["concerns"].as_array().cloned().unwrap_or_default();
        all.iter().find(|concern| concern["name"] == name).map(|concern| concern["says"].to_string())
    };
    until("it is a finding", || {
        says(&status(), "no_leader").is_some_and(|says| says.contains("DEL") && says.contains("evil"))
    });
    // The time for a result passes with the prices.
    until("the decision counts as unsent", || {
        price(&server, "AAAUSDT", "1.008");
        status()["positions"]["decisions_open"]["unsent"] == 1
    });
    assert_eq!((says(&status(), "decision_unknown"), entries(&server, DECISION).len()), (None, 0));
    let settings = place.folder.path().join("harvester.toml");
    let doctor = run(harvester().args(["doctor", "--redis", &place.url, "--config", name(&settings)]));
    assert!(doctor.out.contains("lease") && doctor.out.contains(&format!("DEL {lease}")), "{}", doctor.out);
    server.cli(&["DEL", &lease]);
    until("it leads again, and sends the decision or withdraws it", || entries(&server, DECISION).len() == 1);
    service.stop();
}
