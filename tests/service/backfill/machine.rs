//! The machine of that night with all its faults: the reports of `doctor`, `reconcile` and `import-hashes`.

use serde_json::{Value, json};

use super::night::{Night, OBSERVATIONS, PLANS, is_first_position, is_signal, marks};
use crate::support::binary::Ran;
use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log))
}

/// Returns the check of a subject whose texts contain these words.
fn found<'a>(document: &'a Value, words: &[&str]) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    let holds = |check: &&Value| words.iter().all(|word| check.to_string().contains(word));
    checks.iter().find(holds).unwrap_or_else(|| panic!("no check contains {words:?}: {document:#}"))
}

#[test]
fn i43_doctor_finds_the_faults_of_that_night() {
    let exchange = ExchangeServer::start();
    let mut night = Night::new();
    night.configure(&exchange.url(), "[backfill]\nsources = [\"redis\", \"api\"]\n");
    night.import(|entry| is_signal(entry) || is_first_position(entry));
    night.set("BINANCE_TESTNET_API_KEY", &format!("{KEY}\r"));
    night.set("BINANCE_TESTNET_API_SECRET", &SECRET[..40]);

    // An environment file from another system.
    let env_file = night.path("harvester.env");
    let lines = "\u{feff}HARVEST_MODE=shadow\r\nexport REDIS_URL=redis://x\n# a comment\nSTREAM_APPLY_PLAN = plans\n\
                 HARVEST_MIN_R=\"0.5\njust words\nHARVEST_MODE=live\n";
    std::fs::write(&env_file, lines).unwrap();
    // Results: trimmed to the newest one, and unreadable refusals.
    let results = "quantum:stream:apply.result";
    let refusal = format!("XADD {results} * plan_id p symbol ADAUSDT order_status BOGUS");
    night.commands(&vec![refusal; 30]);
    night.redis.cli(&["XTRIM", results, "MAXLEN", "5"]);
    // A group whose consumers have stopped with pending entries; two executors on the plans.
    night.redis.cli(&["XGROUP", "CREATE", results, "harvest", "0"]);
    night.redis.cli(&["XREADGROUP", "GROUP", "harvest", "harvest-31337", "COUNT", "3", "STREAMS", results, ">"]);
    for group in ["apply_layer", "apply_layer_copy"] {
        night.redis.cli(&["XGROUP", "CREATE", PLANS, group, "$"]);
    }
    // Prices: keys empty, one old; a key of the wrong type in the place of the ticks.
    let (symbol, price) = &marks()[0];
    night.redis.cli(&["HSET", &format!("quantum:ticker:{symbol}"), "markPrice", price, "timestamp", "1770170000000"]);
    night.redis.cli(&["SET", "quantum:stream:market.tick", "a string"]);
    night.redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    night.redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);

    let before = night.keys();
    let ran = night.run(&["doctor", "--json", "--env-file", env_file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
    assert_eq!(night.keys(), before, "a doctor changes nothing");
    let report = document(&ran);
    for words in [
        // Configuration.
        &["warning", "BINANCE_TESTNET_API_KEY: a carriage return at the end was cleaned"][..],
        &["harvester.env:1", "byte order mark"],
        &["harvester.env:1", "carriage return"],
        &["harvester.env:2", "`export` before REDIS_URL: systemd drops the line"],
        &["harvester.env:4", "not the name of a variable"],
        &["harvester.env:5", "quotes of HARVEST_MIN_R do not close"],
        &["harvester.env:6", "just words"],
        &["harvester.env:7", "HARVEST_MODE is set in line 1 already"],
        // Redis.
        &["persistence", "neither append-only file nor snapshots"],
        &["memory", "allkeys-lru"],
        // Streams.
        &["market.tick", "this key is a string, not a stream"],
        &["apply.result", "not readable: unknown_word 5"],
        &["apply.result", "25 entries gone"],
        &["apply.plan", "2 executors read the requests: apply_layer, apply_layer_copy"],
        &["position.snapshot", "there is no such stream"],
        // Prices.
        &["coverage", "44 of 44 open positions have no fresh price anywhere"],
        &["redis_ticker", "43 absent, 1 too old"],
        // Positions.
        &["mark_price", "lacking in 44 of 44 positions"],
        &["risk_too_large", "ANKRUSDT, ARCUSDT"],
        &["ARCUSDT", "as a fraction 0.0318 a unit", "no rung is within reach"],
        // Outside.
        &["credentials", "BINANCE_TESTNET_API_SECRET has 40 characters"],
    ] {
        let check = found(&report, words);
        assert_ne!(check["verdict"], "ok", "{check}");
        assert_ne!(check["next"], "", "each finding has a next step: {check}");
    }
    assert_eq!(found(&report, &["exchange", "answers; its clock is"])["verdict"], "ok");
    assert!(report["settings"].as_array().unwrap().iter().any(|setting| setting["origin"] == "file"));
    assert!(!ran.out.contains(&KEY[..8]) && !ran.out.contains(&SECRET[..8]), "no secret is shown");
    // For people: only findings, each with its next step.
    let text = night.run(&["doctor", "--env-file", env_file.to_str().unwrap()]).out;
    assert!(text.contains("of 100 MB, allkeys-lru\n          -> set maxmemory-policy noeviction"), "{text}");
}

#[test]
fn i11_doctor_names_an_absent_server_and_continues() {
    let mut night = Night::new();
    night.set("HARVEST_MIN_R", "0.5");
    let absent = format!("redis://127.0.0.1:{}", crate::support::redis::free_port());
    let ran = night.run(&["doctor", "--json", "--redis", &absent]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
    let report = document(&ran);
    assert_eq!(found(&report, &["redis", "cannot be reached"])["verdict"], "problem");
    assert_eq!(found(&report, &["exchange", "reachable", "cannot be reached"])["verdict"], "problem");
}

/// Returns a store folded from signals and the first look-up, with an exchange that has two of its positions.
fn reconciled() -> (Night, ExchangeServer) {
    let exchange = ExchangeServer::start();
    let mut night = Night::new();
    night.configure(&exchange.url(), "");
    night.set("BINANCE_TESTNET_API_KEY", KEY);
    night.set("BINANCE_TESTNET_API_SECRET", SECRET);
    let history = night.path("history.jsonl");
    let line = |id: &str, symbol: &str, amount: &str, entry: &str| {
        let payload = json!({"symbol": symbol, "positionAmt": amount, "entryPrice": entry}).to_string();
        json!({"stream": OBSERVATIONS, "id": id, "fields": {"event_type": "exchange.position", "payload": payload}})
            .to_string()
    };
    let text = [
        line("1-0", "ADAUSDT", "666.22", "0.3002"),
        line("1-1", "BTCUSDT", "-0.002", "90000"),
        line("1-2", "ETHUSDT", "0.12", "3000"),
        line("1-3", "GHOSTUSDT", "5", "2"),
    ];
    std::fs::write(&history, text.join("\n")).unwrap();
    let store = night.path("state");
    let ran = night.run(&["replay", history.to_str().unwrap(), "--store", store.to_str().unwrap(), "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    (night, exchange)
}

fn reconcile(night: &Night) -> (Option<i32>, Value) {
    let store = night.path("state");
    let ran = night.run(&["reconcile", "--store", store.to_str().unwrap(), "--json"]);
    (ran.code, document(&ran))
}

#[test]
fn i31_reconcile_distinguishes_ghosts_unknown_positions_and_differences() {
    let (night, exchange) = reconciled();
    {
        let mut world = exchange.world();
        world.set_position("ADAUSDT", "666.2200", "0.30021");
        world.set_position("BTCUSDT", "0.002", "90000");
        world.set_position("ETHUSDT", "0.12", "3010");
        world.set_position("NEWUSDT", "1", "1");
    }
    let (code, report) = reconcile(&night);
    assert_eq!(code, Some(1));
    assert_eq!(report["verdict"], "differs");
    let verdicts: Vec<(&str, &str)> = report["positions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["symbol"].as_str().unwrap(), p["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("ADAUSDT", "same"),
            ("BTCUSDT", "different_quantity"),
            ("ETHUSDT", "different_entry"),
            ("GHOSTUSDT", "only_here"),
            ("NEWUSDT", "only_there"),
        ]
    );
    assert_eq!(report["coverage"]["answered"], true);
    {
        let mut world = exchange.world();
        world.positions.clear();
        world.set_position("ADAUSDT", "666.22", "0.3002");
        world.set_position("BTCUSDT", "-0.002", "90000");
        world.set_position("ETHUSDT", "0.12", "3000");
        world.set_position("GHOSTUSDT", "5", "2");
    }
    let (code, report) = reconcile(&night);
    assert_eq!((code, &report["verdict"], &report["counts"]["same"]), (Some(0), &"same".into(), &4.into()));
}

#[test]
fn i66_a_hedge_account_never_agrees_with_one_way_books() {
    let (night, exchange) = reconciled();
    let flat = ["ADAUSDT", "BTCUSDT", "ETHUSDT", "GHOSTUSDT"];
    // The netted quantities are equal to ours.
    for (symbol, long, short) in [
        ("ADAUSDT", "700", "-33.78"),
        ("BTCUSDT", "1", "-1.002"),
        ("ETHUSDT", "0.2", "-0.08"),
        ("GHOSTUSDT", "6", "-1"),
    ] {
        exchange.world().set_side(symbol, "LONG", long, "1");
        exchange.world().set_side(symbol, "SHORT", short, "1");
    }
    let (code, report) = reconcile(&night);
    assert_eq!(
        (code, &report["verdict"], &report["counts"]["unknown"]),
        (Some(1), &"unknown".into(), &12.into()),
        "{report:#}"
    );
    assert_eq!((&report["counts"]["same"], &report["coverage"]["account"]), (&0.into(), &"hedge (dual-side)".into()));
    let sides: Vec<&str> = report["positions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["symbol"] == "ADAUSDT")
        .map(|row| row["position_side"].as_str().unwrap())
        .collect();
    assert_eq!(sides, ["BOTH", "LONG", "SHORT"], "separate rows");
    // Nothing is open there, and the account is still in hedge mode; or no answer states its mode.
    exchange.world().sided.clear();
    let (code, report) = reconcile(&night);
    assert_eq!(
        (code, &report["verdict"], &report["counts"]["unknown"]),
        (Some(1), &"unknown".into(), &flat.len().into())
    );
    exchange.world().is_hedged = false;
    exchange.fail("/fapi/v1/positionSide/dual", [Fault::Status(500, Vec::new(), String::new())]);
    let (code, report) = reconcile(&night);
    assert_eq!((code, &report["verdict"]), (Some(1), &"unknown".into()));
    assert!(report["coverage"]["not_known"].to_string().contains("whether the account is in hedge mode"), "{report:#}");
    let (code, report) = reconcile(&night);
    assert_eq!((code, &report["counts"]["only_here"]), (Some(1), &flat.len().into()), "known to be one-way, and flat");
}

#[test]
fn i69_doctor_reports_environment_key_and_mode_of_the_account() {
    let (mut night, exchange) = reconciled();
    exchange.world().set_position("ADAUSDT", "1", "1");
    let report = document(&night.run(&["doctor", "--json"]));
    for words in [
        &["environment", "testnet: http://127.0.0.1", "with the listen key as a path"][..],
        &["credentials", "a call signed with an HMAC key was answered: 1 open positions"],
        &["account", "one-way mode"],
        &["account socket", "not looked at: no user feed at 127.0.0.1:"],
    ] {
        assert_eq!(found(&report, words)["verdict"], "ok");
    }
    exchange.world().set_side("ADAUSDT", "LONG", "4", "0.3");
    let report = document(&night.run(&["doctor", "--json"]));
    assert_eq!(found(&report, &["account", "hedge (dual-side) mode"])["verdict"], "ok");
    // A secret of another kind is tried with its own kind, and that is named.
    night.set("BINANCE_TESTNET_API_SECRET", "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF");
    let ran = night.run(&["doctor", "--json"]);
    let check = found(&document(&ran), &["credentials", "code -1022", "signed as Ed25519"]).clone();
    assert_eq!(check["verdict"], "problem");
    assert!(!ran.out.contains("MC4CAQAw"), "{}", ran.out);
    // Addresses of an earlier version that connect and stay silent.
    let more = "[feed]\nlisten = \"\"\nmark_url = \"wss://fstream.binance.com/ws/!markPrice@arr@1s\"\nuser_url = \"wss://fstream.binance.com/ws/\"\n";
    night.configure(&exchange.url(), more);
    let text = std::fs::read_to_string(night.path("harvester.toml")).unwrap();
    std::fs::write(
        night.path("harvester.toml"),
        text.replace("[exchange]\n", "[exchange]\nenvironment = \"production\"\n"),
    )
    .unwrap();
    let report = document(&night.run(&["doctor", "--json"]));
    for name in ["feed.mark_url is not below /market/", "feed.user_url is not below /private/"] {
        assert_eq!(found(&report, &[name])["verdict"], "problem");
    }
}

#[test]
fn i48_a_failed_call_is_never_read_as_flat() {
    let (mut night, exchange) = reconciled();
    exchange.fail("/fapi/v3/positionRisk", [Fault::Status(503, Vec::new(), "<html>".to_owned())]);
    let (code, report) = reconcile(&night);
    assert_eq!((code, &report["verdict"], &report["counts"]["unknown"]), (Some(3), &"unknown".into(), &4.into()));
    assert_eq!((&report["counts"]["only_here"], &report["coverage"]["answered"]), (&0.into(), &false.into()));
    assert!(report["coverage"]["not_known"].to_string().contains("so any of them may be open"), "{report:#}");
    night.set("BINANCE_TESTNET_API_KEY", "");
    let (code, report) = reconcile(&night);
    assert_eq!((code, &report["verdict"]), (Some(2), &"unknown".into()));
    assert!(report["coverage"]["failure"].as_str().unwrap().contains("BINANCE_TESTNET_API_KEY is empty"), "{report:#}");
}

#[test]
fn i05_old_hashes_become_the_weakest_source_and_absurd_values_are_named() {
    let night = Night::new();
    night.configure("http://127.0.0.1:9", "");
    night.write_hashes("quantum:position:");
    night.redis.cli(&["HSET", "quantum:position:NEARUSDT", "entry_price", "96106059.76"]);
    night.redis.cli(&["HSET", "quantum:ticker:NEARUSDT", "markPrice", "1.46", "timestamp", "1"]);
    // Other programs use the same prefix.
    night.redis.cli(&["HSET", "quantum:position:snapshot:BTCUSDT", "entry_price", "5"]);
    night.redis.cli(&["HSET", "quantum:position:count", "n", "5"]);
    // ARCUSDT is open, and no other source has its price or its risk.
    night.buy("ARCUSDT", "3135.7792411414234", None);

    let none = night.run(&["import-hashes", "NOSUCHUSDT"]);
    let expected = "[IMPORT] no key of a position begins with quantum:position: or quantum:";
    assert!(none.code == Some(0) && none.out.starts_with(expected), "{}{}", none.out, none.log);
    let dry = document(&night.run(&["import-hashes", "--dry-run", "--json"]));
    assert_eq!((&dry["hashes"], &dry["appended"]), (&44.into(), &1.into()), "{dry:#}");
    assert_eq!(night.redis.cli(&["EXISTS", OBSERVATIONS]).trim(), "0");
    let ran = night.run(&["import-hashes"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert!(
        ran.out.contains("[OK] quantum:position:ARCUSDT: entry_price=0.0636 atr=0.1 vol=5 (legacy "),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("entry_price=\"0\" is not believed: a 0 is not a value"), "{}", ran.out);
    assert!(ran.out.contains("[IMPORT] 44 hashes / appended 1 / "), "{}", ran.out);
    assert!(
        ran.out.contains(
            "entry_price=\"96106059.76\" is not believed: more than ten times apart from the price of today, 1.46"
        ),
        "{}",
        ran.out
    );
    assert_eq!(night.redis.cli(&["XLEN", OBSERVATIONS]).trim(), "1");
    let report = document(&night.run(&["backfill", "--json"]));
    let arc = &report["positions"][0];
    assert_eq!(
        (&arc["entry_price"]["value"], &arc["entry_price"]["source"]),
        (&"0.0636".into(), &"legacy".into()),
        "{arc:#}"
    );
    assert_eq!((&arc["atr_value"]["source"], &arc["risk_price"]), (&"legacy".into(), &"0.5".into()));
}

#[test]
fn i02_needs_are_named_with_age_and_order_from_the_store_alone() {
    let (night, _exchange) = reconciled();
    let store = night.path("state");
    let report = document(&night.run(&["needs", "--store", store.to_str().unwrap(), "--json"]));
    assert_eq!((&report["positions_open"], &report["positions_unknown"]), (&4.into(), &false.into()));
    let of = |symbol: &str| -> Vec<&str> {
        let list = report["needs"].as_array().unwrap().iter().filter(|need| need["symbol"] == symbol);
        list.map(|need| need["want"].as_str().unwrap()).collect()
    };
    assert_eq!(of("ADAUSDT"), ["mark_price", "instrument", "fills"]);
}
