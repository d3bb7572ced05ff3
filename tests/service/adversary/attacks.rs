//! The attacks, one way each.

use serde_json::json;

use super::world::{DUE, SENT, VICTIM, WEAK, World};
use crate::support::service::{self, CONTROL, DECISION, PRICE, RESULT, add};

/// One way of attack.
pub struct Attack {
    pub name: &'static str,
    pub act: fn(&mut World),
}

const LIVE: &str = r#""mode":"live","atr_unit":{"default":"absolute"},"price_sources":["market.tick"],"on_live":"take","require_instrument":false,"live_risk_sources":["plan","intent","intent_nearest"]"#;

fn policy(ladder: &str, reason: &str) -> String {
    format!(r#"{{"policy":{{{LIVE},"ladder":"{ladder}"}},"reason":"{reason}"}}"#)
}

/// Writes a kill that is believed, and then the entries that try to undo it.
fn killed(world: &mut World) {
    world.write_control("kill.changed", r#"{"kill":true,"reason":"r"}"#);
    world.until_killed();
    world.is_held = true;
}

/// Writes a gap that is believed: positions are held.
fn gap(world: &mut World) {
    world.write_control("history.gap", &json!({"stream": RESULT}).to_string());
    world.is_held = true;
}

/// Captures a signed entry of an operator, for a replay.
fn capture(world: &mut World) -> Vec<(String, String)> {
    world.operator(&["kill", "off"]);
    world.signed("kill.changed")
}

fn set(fields: &mut [(String, String)], name: &str, value: &str) {
    for (_, old) in fields.iter_mut().filter(|(of, _)| of == name) {
        value.clone_into(old);
    }
}

fn decision_id(world: &World) -> String {
    let decision = world.decision();
    decision.into_iter().find(|(name, _)| name == "decision_id").map(|(_, id)| id).unwrap_or_default()
}

/// Returns the id of the next decision, which anybody can compute.
fn next_decision_id(world: &World) -> String {
    let half = harvester::domain::units::RMultiple::new("0.5".parse().expect("a decimal"));
    harvester::domain::engine::decision_id(&world.position_of(DUE), &[half], 1)
}

/// Returns a forged decision for the order that is due.
fn forged(world: &World, seq: &str, mode: &str, hash: Option<&str>) -> Vec<(String, String)> {
    let ours = world.decision();
    let of = |name: &str| ours.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    let id = next_decision_id(world);
    let payload = of("payload")
        .replace(SENT, DUE)
        .replace(&of("decision_id"), &id)
        .replace(&world.position_of(SENT).replace(SENT, DUE), &world.position_of(DUE))
        .replace("\"live\"", &format!("\"{mode}\""));
    let hash = hash.map_or_else(|| harvester::codec::seal::chained(&of("hash"), &payload), str::to_owned);
    let fields = [
        ("event_type", "harvest.decision".to_owned()),
        ("schema", "1".to_owned()),
        ("decision_id", id),
        ("symbol", DUE.to_owned()),
        ("mode", mode.to_owned()),
        ("seq", seq.to_owned()),
        ("prev", of("hash")),
        ("hash", hash),
        ("signature", of("signature")),
        ("payload", payload),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

pub const ATTACKS: [Attack; 46] = [
    // Loosening without the key.
    Attack {
        name: "a policy for all symbols",
        act: |w| drop(w.write_control("policy.adopted", &policy("0.5:0.25", ""))),
    },
    Attack {
        name: "a policy that claims to be the configured one",
        act: |w| drop(w.write_control("policy.adopted", &policy("0.1:1", "configured"))),
    },
    Attack {
        name: "a policy in shadow, and back",
        act: |w| {
            w.write_control("policy.adopted", r#"{"policy":{"mode":"shadow"}}"#);
            w.write_control("policy.adopted", &policy("0.2:0.5", "configured"));
        },
    },
    Attack {
        name: "a policy as JSON in JSON",
        act: |w| drop(w.write_control("policy.adopted", &json!(policy("0.5:1", "")).to_string())),
    },
    Attack {
        name: "a policy in flat fields",
        act: |w| {
            drop(add(
                &w.server,
                CONTROL,
                &[("event_type", "policy.adopted"), ("policy", &format!("{{{LIVE},\"ladder\":\"0.5:1\"}}"))],
            ))
        },
    },
    Attack {
        name: "kill off",
        act: |w| {
            killed(w);
            w.write_control("kill.changed", r#"{"kill":false,"reason":"r"}"#);
        },
    },
    Attack {
        name: "kill off in capitals",
        act: |w| {
            killed(w);
            w.write_control("KILL.CHANGED", r#"{"kill":"No"}"#);
        },
    },
    Attack {
        name: "kill off in data",
        act: |w| {
            killed(w);
            add(&w.server, CONTROL, &[("event_type", "kill.changed"), ("data", r#"{"kill":false}"#)]);
        },
    },
    Attack {
        name: "kill off inside",
        act: |w| {
            killed(w);
            add(&w.server, CONTROL, &[("payload", r#"{"event_type":"kill.changed","kill":0}"#)]);
        },
    },
    Attack {
        name: "kill off that was held back",
        act: |w| {
            let held_back = w.captured_unread("kill.changed", r#"{"kill":false,"reason":"r"}"#);
            // Issued within one millisecond, it could as well be later than the kill.
            w.server.until_later_ms();
            killed(w);
            w.write(CONTROL, &held_back);
        },
    },
    Attack {
        name: "all gaps accepted",
        act: |w| {
            gap(w);
            w.write_control("gap.accepted", "{}");
        },
    },
    Attack {
        name: "the gap of one accepted",
        act: |w| {
            gap(w);
            w.write_control("gap.accepted", &json!({"symbol": DUE}).to_string());
        },
    },
    Attack {
        name: "a weak risk accepted",
        act: |w| {
            let id = w.position_of(WEAK);
            w.write_control("risk.accepted", &json!({"position_id": id}).to_string());
        },
    },
    Attack {
        name: "a rung armed again",
        act: |w| {
            let id = w.position_of(SENT);
            w.write_control("rung.rearmed", &json!({"position_id": id, "r": "0.5"}).to_string());
        },
    },
    Attack {
        name: "a decision expired that was sent",
        act: |w| {
            let id = decision_id(w);
            w.write_control("decision.expired", &json!({"decision_id": id, "reason": "killed"}).to_string());
        },
    },
    Attack {
        name: "a close passed over before it comes",
        act: |w| {
            let id = format!("{}-0", w.server.now_ms() + 300);
            w.write_control("entry.skipped", &json!({"stream": RESULT, "id": id}).to_string());
            let close = [
                "symbol",
                DUE,
                "side",
                "SELL",
                "executedQty",
                "100",
                "avgPrice",
                "1",
                "orderId",
                "close",
                "status",
                "FILLED",
                "reduceOnly",
                "true",
            ];
            w.server.cli(&[&["XADD", RESULT, &id][..], &close].concat());
            // The next price comes after it.
            while w.server.now_ms() <= id.trim_end_matches("-0").parse().expect("ms") {}
            w.is_held = true;
        },
    },
    Attack {
        name: "a kill passed over",
        act: |w| {
            let id = w.write_control("kill.changed", r#"{"kill":true}"#);
            w.write_control("entry.skipped", &json!({"stream": CONTROL, "id": id}).to_string());
            w.until_killed();
            w.is_held = true;
        },
    },
    // With entries that the key has signed.
    Attack {
        name: "a signed kill off again",
        act: |w| {
            let off = capture(w);
            killed(w);
            w.write(CONTROL, &off);
        },
    },
    Attack {
        name: "a signed kill off of another kind",
        act: |w| {
            let mut off = capture(w);
            gap(w);
            set(&mut off, "event_type", "gap.accepted");
            w.write(CONTROL, &off);
        },
    },
    Attack {
        name: "a signed payload, altered",
        act: |w| {
            let mut adopted = w.signed("policy.adopted");
            let altered =
                adopted.iter().find(|(n, _)| n == "payload").map(|(_, p)| p.replace(SENT, VICTIM)).unwrap_or_default();
            set(&mut adopted, "payload", &altered);
            w.write(CONTROL, &adopted);
        },
    },
    Attack {
        name: "a signed payload, and another behind it",
        act: |w| {
            let mut off = capture(w);
            gap(w);
            off.push(("payload".to_owned(), "{}".to_owned()));
            off.push(("event_type".to_owned(), "gap.accepted".to_owned()));
            w.write(CONTROL, &off);
        },
    },
    Attack {
        name: "another issue, another nonce",
        act: |w| {
            let mut off = capture(w);
            killed(w);
            let now = w.server.now_ms();
            let fresh = format!(r#"{{"kill":false,"issued_ms":{now},"nonce":"{now:032x}"}}"#);
            set(&mut off, "payload", &fresh);
            w.write(CONTROL, &off);
        },
    },
    Attack {
        name: "the signature of a decision",
        act: |w| {
            killed(w);
            let signature =
                w.decision().into_iter().find(|(n, _)| n == "signature").map(|(_, s)| s).unwrap_or_default();
            let payload = format!(r#"{{"kill":false,"issued_ms":{},"nonce":"n"}}"#, w.server.now_ms());
            add(
                &w.server,
                CONTROL,
                &[("event_type", "kill.changed"), ("payload", &payload), ("signature", &signature)],
            );
        },
    },
    Attack {
        name: "a signature in capitals",
        act: |w| {
            let mut off = capture(w);
            killed(w);
            let upper = off.iter().find(|(n, _)| n == "signature").map(|(_, s)| s.to_uppercase()).unwrap_or_default();
            set(&mut off, "signature", &upper);
            w.write(CONTROL, &off);
        },
    },
    Attack {
        name: "an empty signature",
        act: |w| {
            killed(w);
            add(
                &w.server,
                CONTROL,
                &[("event_type", "kill.changed"), ("payload", r#"{"kill":false}"#), ("signature", "")],
            );
        },
    },
    // Forged decisions.
    Attack {
        name: "a decision with any hash",
        act: |w| {
            w.hides = true;
            let f = forged(w, "2", "shadow", Some("deadbeef"));
            w.write(DECISION, &f);
        },
    },
    Attack {
        name: "the next decision of the chain",
        act: |w| {
            w.hides = true;
            let f = forged(w, "2", "live", None);
            w.write(DECISION, &f);
        },
    },
    Attack {
        name: "a decision far ahead in the chain",
        act: |w| {
            w.hides = true;
            let f = forged(w, "1000000000", "live", None);
            w.write(DECISION, &f);
        },
    },
    Attack {
        name: "a decision without a number",
        act: |w| {
            w.hides = true;
            let f = forged(w, "", "live", None);
            w.write(DECISION, &f);
        },
    },
    Attack {
        name: "our decision again",
        act: |w| {
            let d = w.decision();
            w.write(DECISION, &d);
        },
    },
    Attack {
        name: "a decision of brackets",
        act: |w| {
            w.hides = true;
            add(
                &w.server,
                DECISION,
                &[("event_type", "harvest.decision"), ("symbol", DUE), ("payload", &"[".repeat(20_000))],
            );
        },
    },
    Attack {
        name: "a decision without an author",
        act: |w| {
            w.hides = true;
            add(&w.server, DECISION, &[("a", "b")]);
        },
    },
    // Keys and hashes in Redis.
    Attack {
        name: "a memory of a write that never happened",
        act: |w| {
            (w.hides, w.blocks) = (true, true);
            let id = next_decision_id(w);
            // An earlier attack may have deleted the stream.
            let first = service::entries(&w.server, DECISION).into_iter().next();
            let known = first.map_or_else(|| "1-1".to_owned(), |(id, _)| id);
            w.server.cli(&["HSET", &format!("{DECISION}:emitted"), &id, &format!("{known} {known} ")]);
        },
    },
    Attack { name: "an unreadable memory", act: |w| drop(w.server.cli(&["DEL", &format!("{DECISION}:emitted")])) },
    Attack {
        name: "decisions and memory gone",
        act: |w| {
            w.hides = true;
            w.server.cli(&["DEL", DECISION, &format!("{DECISION}:emitted")]);
        },
    },
    Attack { name: "the lease gone", act: |w| drop(w.server.cli(&["DEL", &format!("{DECISION}:lease")])) },
    Attack {
        name: "a kill key that vanishes",
        act: |w| {
            w.server.cli(&["SET", "quantum:kill", "1"]);
            w.until_killed();
            w.server.cli(&["DEL", "quantum:kill"]);
            w.write_control("kill.changed", r#"{"kill":false}"#);
            w.is_held = true;
        },
    },
    Attack {
        name: "a kill key that is set to 0",
        act: |w| {
            w.server.cli(&["SET", "quantum:kill", "1"]);
            w.until_killed();
            w.server.cli(&["SET", "quantum:kill", "0"]);
            w.is_held = true;
        },
    },
    Attack {
        name: "the group before a kill",
        act: |w| {
            w.server.cli(&["XGROUP", "SETID", CONTROL, "harvester", "9999999999999-0"]);
            killed(w);
        },
    },
    Attack {
        name: "no group",
        act: |w| {
            w.server.cli(&["XGROUP", "DESTROY", CONTROL, "harvester"]);
            killed(w);
        },
    },
    Attack {
        name: "ids ahead of a kill",
        act: |w| {
            let ahead = format!("{}-0", w.server.now_ms() + 7_200_000);
            w.server.cli(&[
                "XADD",
                CONTROL,
                &ahead,
                "event_type",
                "history.gap",
                "payload",
                r#"{"stream":"elsewhere"}"#,
            ]);
            killed(w);
            w.write_control("kill.changed", r#"{"kill":false}"#);
        },
    },
    Attack {
        name: "a memory of another type",
        act: |w| {
            (w.hides, w.blocks) = (true, true);
            let memory = format!("{DECISION}:emitted");
            w.server.cli(&["DEL", &memory]);
            w.server.cli(&["SET", &memory, "x"]);
        },
    },
    // Unreadable entries.
    Attack {
        name: "a policy of brackets",
        act: |w| {
            w.write_control("policy.adopted", &format!(r#"{{"policy":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000)));
            w.is_held = true;
        },
    },
    Attack {
        name: "a policy of objects",
        act: |w| {
            w.write_control(
                "policy.adopted",
                &format!(r#"{{"policy":{}1{}}}"#, r#"{"a":"#.repeat(20_000), "}".repeat(20_000)),
            );
            w.is_held = true;
        },
    },
    Attack {
        name: "a policy of two megabytes",
        act: |w| {
            // It would be in force as the unsigned policy that it is, or as none: it is too large to be read, and kills.
            w.write_control(
                "policy.adopted",
                &format!(r#"{{"policy":{{{LIVE},"ladder":"0.5:1"}},"x":"{}"}}"#, "x".repeat(2_000_000)),
            );
            w.is_held = true;
        },
    },
    Attack {
        name: "prices of brackets",
        act: |w| {
            add(&w.server, PRICE, &[("payload", &"[".repeat(20_000))]);
            add(&w.server, CONTROL, &[("", "")]);
        },
    },
];
