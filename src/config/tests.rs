//! The configuration from its files, its environment and its flags.

use secrecy::ExposeSecret as _;

use super::*;
use crate::codec::request::OrderFormat;
use crate::domain::exit::policy::Mode;

fn load(names: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_parts(None, names.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

#[test]
fn i44_cleans_carriage_returns_and_says_so() {
    let config = load(&[("HARVEST_MIN_R", "0.75\r"), ("STREAM_APPLY_RESULT", "\"results\"")]).unwrap();
    assert_eq!(config.policy.min_r.to_string(), "0.75");
    assert!(config.streams.id_of("results").is_some());
    assert_eq!(
        config.warnings,
        [
            "HARVEST_MIN_R: a carriage return at the end was cleaned",
            "STREAM_APPLY_RESULT: quotes around the value was cleaned",
        ]
    );
}

/// Variables that Kubernetes sets for services called `harvest-brain` and `redis`.
#[test]
fn names_that_a_cluster_manager_makes_set_nothing() {
    let names = [
        ("HARVEST_BRAIN_SERVICE_HOST", "10.96.0.7"),
        ("HARVEST_BRAIN_SERVICE_PORT", "9464"),
        ("HARVEST_BRAIN_SERVICE_PORT_METRICS", "9464"),
        ("HARVEST_BRAIN_PORT", "tcp://10.96.0.7:9464"),
        ("HARVEST_BRAIN_PORT_9464_TCP", "tcp://10.96.0.7:9464"),
        ("HARVEST_BRAIN_PORT_9464_TCP_PROTO", "tcp"),
        ("HARVEST_BRAIN_PORT_9464_TCP_PORT", "9464"),
        ("HARVEST_BRAIN_PORT_9464_TCP_ADDR", "10.96.0.7"),
        ("REDIS_PORT", "tcp://10.96.0.8:6379"),
        ("REDIS_SERVICE_HOST", "10.96.0.8"),
    ];
    let config = load(&names).unwrap();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    for (name, _) in names {
        assert!(config.warnings[0].contains(name), "{name} is not named: {:?}", config.warnings);
    }
    assert_eq!(config.redis.url.expose_secret(), "redis://127.0.0.1:6379");
    for (name, value) in [
        ("HARVEST_BRAIN_PORT", "9464"),
        ("HARVEST_PORT_x_TCP", "tcp://10.96.0.7:1"),
        ("HARVEST_BRAIN_PORT_1_TCP_WHAT", "1"),
        ("HARVEST_PORT_80_TCP", "true"),
        ("HARVEST_PORT_80_TCP_PROTO", "live"),
        ("HARVEST_PORT_80_TCP_PORT", "81"),
        ("HARVEST_PORT_80_TCP_ADDR", "yes"),
        ("HARVEST_BRAIN", "tcp://10.96.0.7:9464"),
    ] {
        assert!(load(&[(name, value)]).is_err(), "{name}");
    }
}

fn in_file(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::from_parts(Some(file.path()), BTreeMap::new())
}

fn origin(config: &Config, key: &str) -> String {
    config.settings.iter().find(|setting| setting.key == key).unwrap().origin.to_string()
}

#[test]
fn flags_count_above_the_environment_and_that_above_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[run]\ntick_ms = 1000\nread_count = 10\ngroup = \"g\"\n[emit]\nkill_key = \"k\"\n";
    std::fs::write(file.path(), text).unwrap();
    let names = [("HARVEST_SCAN_INTERVAL_SEC", "2.5"), ("HARVEST_KILL_SWITCH_KEY", "stop")];
    let environment = names.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_parts(Some(file.path()), environment.into()).unwrap();
    let config = config.with_flags([("run.group", "flagged".to_owned())]).unwrap();
    let run = &config.run;
    assert_eq!((run.tick_ms, run.read_count, &*run.group, run.lease_ms), (2500, 10, "flagged", 5000));
    assert_eq!(config.emit.kill_key, "stop");
    for (key, want) in [
        ("run.tick_ms", "environment HARVEST_SCAN_INTERVAL_SEC"),
        ("run.read_count", "file"),
        ("run.group", "flag"),
        ("run.lease_ms", "default"),
        ("emit.kill_key", "environment HARVEST_KILL_SWITCH_KEY"),
    ] {
        assert_eq!(origin(&config, key), want, "{key}");
    }
}

#[test]
fn values_out_of_range_and_unknown_keys_are_named() {
    for (text, want) in [
        ("[run]\nread_count = 0", "run.read_count = 0: want a whole number from 1 to 100000"),
        ("[run]\ngruop = \"x\"", "key `run.gruop` is unknown (did you mean `run.group`?)"),
        (
            "[run.silent_after_ms]\nprize = 1",
            "`run.silent_after_ms.prize` is unknown (did you mean `run.silent_after_ms.price`?)",
        ),
        ("[rnu]\ngroup = \"x\"", "key `rnu` is unknown (did you mean `run`?)"),
        ("[streams]\nsugestions = \"x\"", "`streams.sugestions` is unknown (did you mean `streams.suggestions`?)"),
        ("[streams]\nsuggestions = \"quantum:stream:trade.intent\"", "is written, and named for something else too"),
        ("[run]\nlisten = \"9464\"", "run.listen = \"9464\": want ADDRESS:PORT"),
        (
            "[run]\nfrom = \"yesterday\"",
            "run.from = \"yesterday\": want earliest, latest, an entry id or a time (2026-02-04T02:07Z, 02:07, 90m ago)",
        ),
        ("[emit]\nformat = \"plan\"", "emit.format = \"plan\": want apply_plan or trade_intent"),
        ("[backfill]\nsources = [\"api\", \"API\"]", "want a list of redis and api, none twice"),
        ("[exchange]\nbase_url = \"http://exchange.example\"", "want https://host"),
        ("[exchange]\nenvironment = \"moon\"", "want production or demo or testnet"),
        (
            "[exchange]\nenvironment = \"demo\"\nbase_url = \"https://fapi.binance.com\"",
            "want an address of the demo environment",
        ),
        (
            "[feed]\nuser_url = \"wss://fstream.binance.com/private/ws?listenKey=x\"",
            "without user, listen key and query",
        ),
        ("[exchange]\napi_key = \"x\"", "key `exchange.api_key` is read from BINANCE_TESTNET_API_KEY only"),
        ("[feed]\nmark_url = \"ws://exchange.example/ws\"", "want wss://host"),
        ("run = 5", "run = integer: want a table: [run]"),
    ] {
        let error = in_file(text).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let error = load(&[("HARVEST_MIN_R", "much")]).unwrap_err().to_string();
    assert_eq!(error, "environment: HARVEST_MIN_R = \"much\": want a number of at most 28 digits, as \"0.5\"");
    let error = load(&[("HARVEST_SCAN_INTERVAL_SEC", "soon")]).unwrap_err().to_string();
    assert_eq!(error, "environment: HARVEST_SCAN_INTERVAL_SEC = \"soon\": want seconds from 0.1 to 3600");
}

#[test]
fn secrets_are_neither_shown_nor_said() {
    const WORD: &str = "hush-hush-hush-hush";
    let names = [
        ("REDIS_URL", "rediss://me:hush-hush-hush-hush@host:6380/2"),
        ("HARVEST_SIGNING_KEY", WORD),
        ("BINANCE_TESTNET_API_KEY", WORD),
        ("BINANCE_TESTNET_API_SECRET", "hush-hush hush\r"),
    ];
    let config = load(&names).unwrap();
    let shown = format!("{config:?} {:?} {:?} {:?}", config.redis, config.emit, config.exchange);
    let settings = serde_json::to_string(&config.settings.iter().map(|s| &s.value).collect::<Vec<_>>()).unwrap();
    for text in [&shown, &settings, &config.warnings.join("\n")] {
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(settings.contains("rediss://me:***@host:6380/2"), "{settings}");
    for text in
        ["[redis]\nurl = \"hush://x\"", "[redis]\nurl = [\"hush\"]", "[redis]\nurl = \"redis://:hush@host", "hush"]
    {
        let error = format!("{0} {0:?}", in_file(text).unwrap_err());
        assert!(!error.contains("hush"), "{error}");
    }
    let error = load(&[("REDIS_URL", "hush")]).unwrap_err().to_string();
    let want =
        "want redis://host:port, rediss://host:port, or nodes of a cluster as redis-cluster://host:port,host:port";
    assert_eq!(error, format!("environment: REDIS_URL = \"***\": {want}"));
}

#[test]
fn i44_a_credential_that_cannot_be_used_has_a_named_reason() {
    let key = "k".repeat(64);
    let with = |secret: &str| {
        let names = [("BINANCE_TESTNET_API_KEY", key.as_str()), ("BINANCE_TESTNET_API_SECRET", secret)];
        let config = load(&names).unwrap();
        (config.exchange.given().map(drop).map_err(|reason| reason.to_string()), config.warnings)
    };
    let refused = |reason: &str| Err(format!("BINANCE_TESTNET_API_SECRET {reason}"));
    assert_eq!(with(&key), (Ok(()), vec![]));
    let (usable, warnings) = with(&format!("{key}\r"));
    assert_eq!(usable, Ok(()));
    assert_eq!(warnings, ["BINANCE_TESTNET_API_SECRET: a carriage return at the end was cleaned"]);
    assert_eq!(with("\"\"").0, refused("is empty"));
    assert_eq!(with("a b").0, refused("has a space or a control character inside"));
    let (usable, warnings) = with("short");
    assert_eq!(usable, Ok(()), "whether it fits is the exchange's to say");
    assert_eq!(warnings, ["BINANCE_TESTNET_API_SECRET has 5 characters, where the exchange gives 64"]);
    let nothing = load(&[]).unwrap();
    assert_eq!(nothing.exchange.given().unwrap_err().to_string(), "BINANCE_TESTNET_API_KEY is not set");
    assert_eq!(nothing.warnings, Vec::<String>::new());
}

#[test]
fn i69_an_environment_sets_all_addresses_and_each_can_be_overridden() {
    let of = |text: &str| {
        let config = in_file(text).unwrap();
        let (exchange, feed) = (config.exchange, config.feed);
        (exchange.environment.name, exchange.base_url, feed.mark_url, feed.user_url, feed.key_form)
    };
    let production = (
        "production",
        "https://fapi.binance.com".to_owned(),
        "wss://fstream.binance.com/market/ws/!markPrice@arr@1s".to_owned(),
        "wss://fstream.binance.com/private/ws".to_owned(),
        "parameter",
    );
    assert_eq!(of("[exchange]\nenvironment = \"production\""), production);
    assert_eq!(of("[exchange]\nbase_url = \"https://fapi.binance.com\""), production, "an address implies the rest");
    let demo = (
        "demo",
        "https://demo-fapi.binance.com".to_owned(),
        "wss://demo-fstream.binance.com/market/ws/!markPrice@arr@1s".to_owned(),
        "wss://demo-fstream.binance.com/private/ws".to_owned(),
        "parameter",
    );
    assert_eq!(of("[exchange]\nenvironment = \"demo\""), demo);
    let testnet = (
        "testnet",
        "https://testnet.binancefuture.com".to_owned(),
        "wss://fstream.binancefuture.com/ws/!markPrice@arr@1s".to_owned(),
        "wss://fstream.binancefuture.com/ws".to_owned(),
        "path",
    );
    assert_eq!(of("[exchange]\nenvironment = \"testnet\""), testnet);
    assert_eq!(of(""), testnet, "without a word for it, no order of production is read");
    let own = of("[exchange]\nenvironment = \"production\"\nbase_url = \"http://127.0.0.1:1\"\n\
                  [feed]\nmark_url = \"ws://127.0.0.1:2/m\"\nuser_url = \"ws://127.0.0.1:3/u/\"");
    let want = ["http://127.0.0.1:1", "ws://127.0.0.1:2/m", "ws://127.0.0.1:3/u"];
    assert_eq!((own.0, [&*own.1, &*own.2, &*own.3], own.4), ("production", want, "parameter"));
}

#[test]
fn i44_a_private_key_comes_from_its_file_or_the_environment() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----";
    let key = "k".repeat(64);
    let names = [("BINANCE_TESTNET_API_KEY", key.as_str()), ("BINANCE_TESTNET_API_SECRET", pem)];
    let config = load(&names).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.exchange.given().unwrap().1.value.expose_secret(), pem);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{pem}\n")).unwrap();
    let text = |path: &Path| format!("[exchange]\napi_secret_file = {path:?}\n");
    let with_key = |text: &str| {
        let folder = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(folder.path(), text).unwrap();
        let names = BTreeMap::from([("BINANCE_TESTNET_API_KEY".to_owned(), key.clone())]);
        Config::from_parts(Some(folder.path()), names).unwrap().exchange.given()
    };
    let (_, found) = with_key(&text(file.path())).unwrap();
    assert_eq!((found.value.expose_secret(), &*found.name), (pem, "exchange.api_secret_file"));
    std::fs::write(file.path(), " \n").unwrap();
    for (path, want) in [(file.path(), "is empty"), (Path::new("/no/such/file"), "cannot be read")] {
        let said = with_key(&text(path)).unwrap_err().to_string();
        assert!(said.starts_with("exchange.api_secret_file names a file that") && said.contains(want), "{said}");
    }
}

#[test]
fn live_names_what_it_lacks() {
    let policy = "[policy]\nmode = \"live\"\nladder = \"1:0.5\"\natr_unit = { default = \"absolute\" }\n\
                  price_sources = [\"market.tick\"]\non_live = \"skip\"\n[emit]\n";
    let mut text = policy.to_owned();
    for (key, line) in [
        ("emit.format", "format = \"trade_intent\"\n"),
        ("emit.source", "source = \"harvester\"\n"),
        ("emit.executors", "executors = [\"bridge\"]\n"),
    ] {
        let error = in_file(&text).unwrap().live().unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
        text.push_str(line);
    }
    let live = in_file(&text).unwrap().live().unwrap().unwrap();
    assert_eq!((live.format, &*live.stream), (OrderFormat::TradeIntent, "quantum:stream:trade.intent"));
    text.push_str("stream = \"elsewhere\"\n");
    assert!(in_file(&text).unwrap().live().unwrap_err().to_string().contains("`emit.stream`"));
    assert_eq!(load(&[]).unwrap().live().unwrap(), None);
}

#[test]
fn files_of_other_systems_are_read() {
    let config = in_file("\u{feff}[run]\r\ngroup = \"g\"\r\n").unwrap();
    assert_eq!(config.run.group, "g");
    assert!(config.warnings[0].ends_with("a byte order mark was cleaned"), "{:?}", config.warnings);
    let config = load(&[("\u{feff}HARVEST_MIN_R", "0.75")]).unwrap();
    assert_eq!(config.policy.min_r.to_string(), "0.75");
}

#[test]
fn redis_is_named_by_url_or_by_host_and_port() {
    let url = |names: &[(&str, &str)]| {
        use secrecy::ExposeSecret as _;
        load(names).unwrap().redis.url.expose_secret().to_owned()
    };
    assert_eq!(url(&[]), "redis://127.0.0.1:6379");
    assert_eq!(url(&[("REDIS_HOST", "::1"), ("REDIS_PORT", "1")]), "redis://[::1]:1");
    assert_eq!(url(&[("REDIS_HOST", "h"), ("REDIS_URL", "redis://other/3")]), "redis://other/3");
    assert!(load(&[("REDIS_PORT", "0")]).is_err() && load(&[("REDIS_HOST", "a/b")]).is_err());
}

#[test]
fn i34_refuses_names_that_it_does_not_know() {
    let error = load(&[("HARVEST_MOD", "live")]).unwrap_err().to_string();
    assert_eq!(error, "environment: HARVEST_MOD is unknown (did you mean `HARVEST_MODE`?)");
    assert!(load(&[("HOME", "/")]).is_ok(), "names of others do not matter");
}

#[test]
fn i19_safety_names_keep_their_sense() {
    assert!(load(&[("HARVEST_REDUCE_ONLY", "false")]).is_err());
    let live = [("HARVEST_MODE", "live"), ("HARVEST_LIVE_WRITES_ENABLED", "no"), ("HARVEST_LADDER", "0.5:0.25")];
    assert_eq!(load(&live).unwrap().policy.mode, Mode::Shadow);
    assert!(load(&live[..1]).is_err(), "live takes no defaults");
    assert_eq!(load(&[("HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC", "30")]).unwrap().policy.max_position_age_ms, 30_000);
}

/// A secret that consists of blanks is refused: an operator who sets a secret wants it to be used.
#[test]
fn a_secret_of_which_cleaning_leaves_nothing_is_refused() {
    for name in ["HARVEST_SIGNING_KEY", "HARVEST_CONSOLE_TOKEN"] {
        for value in ["   ", "\r", "\"\"", "\u{feff}"] {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("remove the name"), "{value:?}: {error}");
        }
    }
    assert!(
        load(&[("HARVEST_SIGNING_KEY", "")]).unwrap().emit.signing_key().unwrap().is_none(),
        "as if it were not set"
    );
}
