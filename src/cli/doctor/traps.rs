//! Valid settings that do harm: a guard that is off, a name without meaning, folders or keys that coincide.

use super::check::Check;
use crate::config::Config;
use crate::domain::event::PriceSource;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::policy::Policy;
use crate::domain::units::Ratio;

const AREA: &str = "configuration";
/// Sources of prices that are not streams.
const OBSERVED: [&str; 3] = [PriceSource::REDIS_TICKER, PriceSource::REDIS_MARKET, PriceSource::API];

pub fn checks(config: &Config) -> Vec<Check> {
    let mut checks = of_policy("policy", &config.policy);
    for (account, policy) in &config.account_policies {
        let own = of_policy(&format!("policy.accounts.{account}"), policy);
        checks.extend(
            own.into_iter().filter(|check| of_policy("policy", &config.policy).iter().all(|g| g.found != check.found)),
        );
    }
    checks.extend(of_sources(config));
    checks.extend(of_streams(config));
    checks.extend(of_folders(config));
    checks.extend(of_key(config));
    checks
}

/// Returns the warning about a live service that verifies nothing.
fn of_key(config: &Config) -> Option<Check> {
    config.is_live_without_key().then(|| {
        let found = "not set, in live mode: every writer of the control stream can change the policy and end a kill";
        Check::warning(AREA, "HARVEST_SIGNING_KEY", found, "set it; docs: Before you go live")
    })
}

/// Returns the guards of a policy that are off, or that nothing can pass.
fn of_policy(name: &str, policy: &Policy) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut trap = |key: &str, is_trap: bool, found: String, next: &str| {
        if is_trap {
            checks.push(Check::warning(AREA, format!("{name}.{key}"), found, next));
        }
    };
    let jump = policy.max_price_jump;
    let zero = |effect: &str| format!("0: {effect}");
    trap(
        "max_price_jump",
        jump.is_zero(),
        zero("each price that differs waits for a second one"),
        "set a share such as 0.05",
    );
    let most = Ratio::RESCALED_PRICE.minus(Ratio::ONE).unwrap_or(Ratio::ONE);
    let found = format!("{jump}: a wrong price up to {jump} away from the last one is used at once, and can sell");
    trap("max_price_jump", jump > most, found, "set a share such as 0.05; 0.3 is the most that makes sense");
    let effects = [
        ("price_confirm_ms", policy.price_confirm_ms, "the next price of the same source confirms a jump", "set 3000"),
        ("divergence_grace_ms", policy.divergence_grace_ms, "the second look-up is adopted at once", "set 60000"),
        ("max_price_age_ms", policy.max_price_age_ms, "each price is stale a millisecond later", "set 10000"),
        ("result_timeout_ms", policy.result_timeout_ms, "a request is unknown before its result can come", "set 60000"),
        ("max_actions_per_min", policy.max_actions_per_min, "nothing is ever sold", "set 30"),
        ("max_attempts", u64::from(policy.max_attempts), "the first refusal of a rung is its last", "set 3"),
    ];
    for (key, value, effect, next) in effects {
        trap(key, value == 0, zero(effect), &format!("{next}, or the value that you mean"));
    }
    let effect = "a rung may be taken before the costs are earned";
    trap("min_r", policy.min_r.is_zero(), zero(effect), "set the lowest R that is worth an order, such as 0.5");
    checks
}

/// Returns the accepted sources of which no price can come.
fn of_sources(config: &Config) -> Vec<Check> {
    let is_known =
        |name: &str| OBSERVED.contains(&name) || config.streams.iter().any(|(_, stream)| stream.short_name() == name);
    let unknown = config.policy.price_sources.iter().filter(|name| !is_known(name));
    let check = |name: &str| {
        let found = format!("{name:?} is the short name of no stream that is read, and no observed source");
        let next = "name a stream without its prefix, such as market.tick, or one of redis_ticker, redis_market, api";
        Check::problem(AREA, "policy.price_sources", found, next)
    };
    unknown.map(|name| &**name).map(check).collect()
}

/// Returns the kinds of streams that are not read, and a kill key that is the key of a stream.
fn of_streams(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let is_read = |kind: StreamKind| config.streams.iter().any(|(_, stream)| stream.kind == kind);
    for (kind, effect) in [
        (StreamKind::Price, "without prices nothing is ever evaluated"),
        (StreamKind::Result, "without results positions are known by look-ups alone, and no order is ever answered"),
    ] {
        if !is_read(kind) {
            let found = format!("no stream is read: {effect}");
            checks.push(Check::problem(AREA, format!("streams.{}", kind.name()), found, "name the stream"));
        }
    }
    let kill_key = &config.emit.kill_key;
    let is_stream = config.streams.iter().any(|(_, stream)| stream.name == *kill_key)
        || [&config.outputs.suggestions, &config.outputs.quarantine].contains(&kill_key)
        || config.emit.stream.as_ref() == Some(kill_key);
    if is_stream {
        let found = format!("{kill_key} is the name of a stream: the key cannot be set, and reading it fails");
        checks.push(Check::problem(AREA, "emit.kill_key", found, "give the kill switch a key of its own"));
    }
    checks
}

/// Returns a store and a journal that are one folder, or one inside the other: a service refuses both.
fn of_folders(config: &Config) -> Option<Check> {
    let next = "give each a folder of its own, beside the other: the service does not start with these";
    config.run.folders_meet().map(|found| Check::problem(AREA, "run.store", found, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).expect("the configuration is written");
        let config = Config::from_parts(Some(&file), std::collections::BTreeMap::new()).expect("it is valid");
        let checks = checks(&config);
        assert!(checks.iter().all(|check| !check.next.is_empty()), "{checks:?}");
        checks.into_iter().map(|check| check.subject).collect()
    }

    #[test]
    fn each_valid_setting_that_does_harm_is_named_with_the_next_step() {
        assert_eq!(found(""), [""; 0], "the defaults do no harm");
        for key in [
            "max_price_jump",
            "price_confirm_ms",
            "divergence_grace_ms",
            "max_price_age_ms",
            "result_timeout_ms",
            "max_actions_per_min",
            "max_attempts",
            "min_r",
        ] {
            assert_eq!(found(&format!("[policy]\n{key} = 0\n")), [format!("policy.{key}")]);
        }
        for jump in ["1", "5"] {
            assert_eq!(found(&format!("[policy]\nmax_price_jump = {jump}\n")), ["policy.max_price_jump"]);
        }
        assert_eq!(found("[policy]\nprice_sources = [\"market.tick\", \"api\"]\n"), [""; 0]);
        assert_eq!(found("[policy]\nprice_sources = [\"quantum:stream:market.tick\"]\n"), ["policy.price_sources"]);
        assert_eq!(found("[streams]\nprice = []\nresult = []\n"), ["streams.price", "streams.result"]);
        assert_eq!(found("[emit]\nkill_key = \"quantum:stream:apply.result\"\n"), ["emit.kill_key"]);
        for journal in ["here", "here/journal", "./here", "."] {
            assert_eq!(
                found(&format!("[run]\nstore = \"here\"\njournal = \"{journal}\"\n")),
                ["run.store"],
                "{journal}"
            );
        }
        assert_eq!(found("[run]\nstore = \"here\"\njournal = \"here-too\"\n"), [""; 0]);
        assert_eq!(found("[policy.accounts.a]\nmin_r = 0\n"), ["policy.accounts.a.min_r"]);
    }
}
