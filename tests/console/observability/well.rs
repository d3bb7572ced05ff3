//! A report in which everything is known: for the tests, and for the page of the metrics.

use harvester::service::report::{
    AccountTotals, Backfill, GapProof, InputReport, JournalReport, Lease, OutboxReport, Past, PolicyReport, Positions,
    RedisReport, Report, Role, RunTotals, StateChecksum,
};

pub fn counts(of: &[(&str, u64)]) -> std::collections::BTreeMap<String, u64> {
    of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// Returns the report of a leader about which everything is known and nothing is wrong.
pub fn well() -> Report {
    let input = |kind: &str, stream: &str, silent_after_ms| InputReport {
        stream: stream.to_owned(),
        kind: kind.to_owned(),
        entries_added: Some(1235),
        lag_entries: Some(2),
        lag_ms: Some(200),
        cursor: Some("1770170830000-0".to_owned()),
        age_ms: Some(900),
        ids_ahead: 0,
        ids_not_time: false,
        ahead_ms: None,
        watched_ms: 3_600_000,
        pending: 2,
        pending_oldest_ms: Some(40),
        gap_proof: GapProof::Counted,
        silent_after_ms,
        fault: None,
    };
    Report {
        build: "0.2.0".to_owned(),
        rules_version: "1".to_owned(),
        settings_hash: "5e".repeat(32),
        group: "harvester".to_owned(),
        consumer: "harvester-1".to_owned(),
        role: Role::Leader,
        uptime_ms: 3_600_000,
        last: Some("1770170830000-0".to_owned()),
        inputs: vec![
            input("result", "quantum:stream:apply.result", None),
            input("price", "quantum:stream:market.tick", Some(30_000)),
        ],
        totals: RunTotals {
            entries: 1240,
            applied: 1235,
            duplicates: 3,
            quarantined: counts(&[("no_price", 2)]),
            shapes: [("price".to_owned(), counts(&[("tick", 1012)]))].into(),
            counts: counts(&[("late_order", 1)]),
            unreadable: [("results".to_owned(), Past { entries: 1, last_age_ms: 7_200_000 })].into(),
            refused: [("bad_signature".to_owned(), Past { entries: 1, last_age_ms: 172_800_000 })].into(),
            holds: counts(&[("below_min_r", 990)]),
            evaluations: 1000,
            decided: 10,
            emitted: 10,
        },
        rates: harvester::service::report::Rates { added: Some(27.0), applied: 27.0, emitted: 0.1 },
        positions: Positions {
            open: 44,
            evaluable: 43,
            missing: counts(&[("entry_price", 1)]),
            held: counts(&[("below_min_r", 40), ("missing_entry_price", 1)]),
            mark_age_ms: counts(&[("ARCUSDT", 400)]),
            decisions_open: counts(&[("shadowed", 10)]),
            decisions_closed: counts(&[("unknown", 1)]),
            accounts: [("main".to_owned(), AccountTotals { open: 44, evaluable: 43, gap_open: 0 })].into(),
            ..Positions::default()
        },
        policy: PolicyReport {
            hash: "ab".repeat(32),
            mode: "shadow".to_owned(),
            hash_configured: "ab".repeat(32),
            mode_configured: "shadow".to_owned(),
            pending: false,
        },
        outbox: OutboxReport { waiting: 1, oldest_ms: Some(3), ..OutboxReport::default() },
        journal: JournalReport { bytes: 1_200_000, files: 1, damaged: 0, position: 1235 },
        lease: Lease { holder: Some("harvester-1".to_owned()), stuck: None, fencing_token: 3, left_ms: Some(4200) },
        redis: RedisReport {
            connected: true,
            version: "7.0.15".to_owned(),
            last_error: None,
            silent_ms: 0,
            reconnects: 0,
            surveys: 9,
            clocks_apart_ms: 0,
            group_shared: false,
        },
        state_checksum: Some(StateChecksum { last: "1770170830000-0".to_owned(), sha256: "cd".repeat(32) }),
        backfill: Some(Backfill { api_calls: 12, weight_used: Some(40), ..Backfill::default() }),
        ..Report::default()
    }
}
