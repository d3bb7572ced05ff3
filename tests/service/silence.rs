//! A network that loses everything and ends no connection: the service says so, and reads again soon after.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::paused::{SYMBOL, at_work};
use crate::run::live_place;
use crate::support::binary::run_with;
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{PLAN, PRICE, Place, Service, entries, is_read, price, until, until_leader};

/// The longest time until a connection without an answer is given up and made again, on a slow machine. It was half a
/// minute and more.
const RECOVERED_WITHIN: Duration = Duration::from_secs(15);

/// A live service behind a proxy, with pages.
struct Wired {
    place: Place,
    wire: Proxy,
    server: RedisServer,
}

impl Wired {
    fn new() -> Self {
        let server = RedisServer::start();
        let wire = Proxy::to(server.port());
        let mut place = live_place(&server, "apply_plan", PLAN);
        place.url = wire.url();
        place.listen = format!("127.0.0.1:{}", free_port());
        Self { place, wire, server }
    }

    /// Starts the service. It leads, and has read an open position.
    fn at_work(&self) -> Service<'_> {
        at_work(&self.server, &self.place)
    }
}

/// Returns the document of a command that asks the running service.
fn asked(place: &Place, command: &str) -> Value {
    let url = format!("http://{}", place.listen);
    let ran = run_with(&[command, "--json", "--url", &url]);
    serde_json::from_str(&ran.out).unwrap_or_default()
}

fn has_finding(status: &Value, name: &str) -> bool {
    status["concerns"].as_array().into_iter().flatten().any(|concern| concern["name"] == name)
}

#[test]
fn a_server_that_is_silent_is_a_finding_and_is_read_again_soon() {
    let wired = Wired::new();
    let Wired { place, wire, server } = &wired;
    let service = wired.at_work();
    assert!(!has_finding(&asked(place, "status"), "not_connected"));

    let inputs = |status: &Value| status["inputs"].as_array().cloned().unwrap_or_default();
    let of_prices = || inputs(&asked(place, "status")).into_iter().find(|input| input["stream"] == PRICE);
    until("the statistics of the streams are known", || {
        of_prices().is_some_and(|input| input["lag_ms"] == 0 && input["age_ms"].is_u64())
    });
    wire.silence(true);
    let began = Instant::now();
    until("it is a finding", || has_finding(&asked(place, "status"), "not_connected"));
    assert!(began.elapsed() < RECOVERED_WITHIN, "after {:?}", began.elapsed());
    until("the inputs are behind, and grow old", || {
        of_prices()
            .is_some_and(|input| input["lag_ms"].as_u64() > Some(10_000) && input["age_ms"].as_u64() > Some(10_000))
    });
    until("the price of the position is stale", || asked(place, "positions")[0]["hold"] == "stale_price");

    wire.silence(false);
    let began = Instant::now();
    price(server, SYMBOL, "1.001");
    until("it reads again", || is_read(server, &[PRICE]));
    until("it says so", || !has_finding(&asked(place, "status"), "not_connected"));
    assert!(began.elapsed() < RECOVERED_WITHIN, "after {:?}", began.elapsed());
    service.stop();
}

/// Only the connection of the reader is silent, and the lease is renewed on another one.
#[test]
fn a_leader_whose_reading_connection_is_silent_makes_another_one() {
    let wired = Wired::new();
    let Wired { place, wire, server } = &wired;
    let service = wired.at_work();
    wire.silence_those_that_send(Some("XREAD"));
    until("the reader waits for an answer", || has_finding(&asked(place, "status"), "not_connected"));
    wire.silence_those_that_send(None);
    let began = Instant::now();
    price(server, SYMBOL, "1.008");
    until("it decides on the price", || entries(server, PLAN).len() == 1);
    assert!(began.elapsed() < RECOVERED_WITHIN, "after {:?}", began.elapsed());
    service.stop();
}

#[test]
fn a_leader_that_can_read_nothing_leaves_the_lease_to_a_standby() {
    let wired = Wired::new();
    let Wired { place, wire, server } = &wired;
    let service = wired.at_work();
    let mut other = Place::new(server);
    other.consumer = "two".to_owned();
    other.settings.clone_from(&place.settings);
    other.environment.clone_from(&place.environment);
    let standby = other.start();
    standby.until_logged(&["HARVEST_START"]);
    wire.silence_those_that_send(Some("XREAD"));
    until_leader(&standby);
    price(server, SYMBOL, "1.008");
    until("the other decides on the price", || entries(server, PLAN).len() == 1);
    service.stop();
    standby.stop();
}
