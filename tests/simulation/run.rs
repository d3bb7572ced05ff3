//! The content of a seed: the configuration of the instances, and the disturbances that can happen.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use harvester::config::Config;
use harvester::domain::delivery::fault::Faults;

use super::rng::Rng;

/// Makes the random numbers of the accounts independent of all others.
const ACCOUNTS: u64 = 0x61cc_0075;

pub const CONTROL: &str = "quantum:stream:harvest.control";
pub const DECISION: &str = "quantum:stream:harvest.decision";
pub const PLAN: &str = "quantum:stream:apply.plan";
pub const PRICE: &str = "quantum:stream:market.tick";
pub const RESULT: &str = "quantum:stream:apply.result";
pub const QUARANTINE: &str = "quantum:stream:harvest.quarantine";
pub const LEASE: &str = "quantum:stream:harvest.decision:lease";
pub const TOKEN: &str = "quantum:stream:harvest.decision:token";
pub const KILL_KEY: &str = "quantum:kill";

/// The run that a test asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub seed: u64,
    pub faults: Faults,
    pub is_traced: bool,
    /// True if nothing is disturbed: one instance, and a network that only takes time.
    pub is_calm: bool,
}

impl Request {
    pub fn of(seed: u64) -> Self {
        Self { seed, faults: Faults::default(), is_traced: false, is_calm: false }
    }
}

/// The disturbances that can happen in a run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub instances: usize,
    pub is_live: bool,
    pub has_key: bool,
    pub has_pending_list: bool,
    /// True with three accounts: one without a name, one with a name, one in hedge mode.
    pub has_accounts: bool,
    pub symbols: usize,
    /// Producers write and disturbances happen until then. [µs]
    pub until_us: u64,
    pub crashes: bool,
    pub pauses: bool,
    pub cuts: bool,
    pub breaks_permille: u64,
    /// True if the server loses its last writes: a failover, or a restart from a backup.
    pub losses: bool,
    pub restarts: bool,
    /// True if the server's clock jumps.
    pub clock_steps: bool,
    /// True if input streams are trimmed.
    pub trims: bool,
    pub full_disks: bool,
    pub kills: bool,
    pub checkpoint_us: u64,
    pub lease_us: u64,
    pub output_maxlen: u64,
    /// Error of each instance's clock. [ms]
    pub clocks_off_ms: Vec<i64>,
}

impl Plan {
    pub fn of(request: &Request, rng: &mut Rng) -> Self {
        let mut plan = Self {
            instances: 1,
            is_live: rng.chance(700),
            has_key: rng.chance(300),
            has_pending_list: rng.chance(800),
            symbols: rng.within(1, 4) as usize,
            until_us: rng.within(4_000_000, 16_000_000),
            checkpoint_us: rng.pick(&[50_000, 300_000, 1_000_000, 4_000_000]),
            lease_us: rng.pick(&[1_000_000, 1_500_000, 2_000_000, 5_000_000]),
            // Drawn from its own random numbers, so that a seed without accounts is the same run as before.
            has_accounts: Rng::new(request.seed ^ ACCOUNTS).chance(350),
            ..Self::default()
        };
        if request.is_calm {
            plan.clocks_off_ms = vec![0];
            return plan;
        }
        plan.instances = rng.pick(&[1, 2, 2, 2, 3]);
        plan.crashes = rng.chance(600);
        plan.pauses = rng.chance(350);
        plan.cuts = rng.chance(400);
        plan.breaks_permille = rng.pick(&[0, 0, 2, 10, 40]);
        plan.losses = rng.chance(450);
        plan.restarts = rng.chance(250);
        plan.clock_steps = rng.chance(120);
        plan.trims = rng.chance(200);
        plan.full_disks = rng.chance(100);
        plan.kills = rng.chance(250);
        plan.output_maxlen = rng.pick(&[0, 0, 0, 0, 0, 8]);
        plan.clocks_off_ms =
            (0..plan.instances).map(|_| rng.pick(&[0, -900, 20_000, -20_000, -20_000, -20_000])).collect();
        plan
    }

    pub fn describe(&self) -> String {
        let named = [
            (self.is_live, "live"),
            (self.has_key, "key"),
            (!self.has_pending_list, "no pending list"),
            (self.has_accounts, "accounts"),
            (self.crashes, "crashes"),
            (self.pauses, "pauses"),
            (self.cuts, "cuts"),
            (self.breaks_permille > 0, "breaks"),
            (self.losses, "losses"),
            (self.restarts, "restarts"),
            (self.clock_steps, "clock steps"),
            (self.trims, "trims"),
            (self.full_disks, "full disks"),
            (self.kills, "kills"),
            (self.output_maxlen > 0, "short outputs"),
        ];
        let named: Vec<&str> = named.iter().filter(|(is_so, _)| *is_so).map(|(_, name)| *name).collect();
        format!("{} instances, {} symbols: {}", self.instances, self.symbols, named.join(", "))
    }

    /// Returns the configuration of all instances.
    pub fn config(&self) -> Config {
        static CONFIGS: OnceLock<[Config; 16]> = OnceLock::new();
        let all =
            CONFIGS.get_or_init(|| std::array::from_fn(|bits| configured([1, 2, 4, 8].map(|bit| bits & bit != 0))));
        let chosen = [self.is_live, self.has_key, self.has_pending_list, self.has_accounts];
        let bits = chosen.iter().zip([1, 2, 4, 8]).filter(|(is_so, _)| **is_so);
        let mut config = all[bits.map(|(_, bit)| bit).sum::<usize>()].clone();
        config.emit.output_maxlen = self.output_maxlen;
        config
    }
}

fn configured([is_live, has_key, has_pending_list, has_accounts]: [bool; 4]) -> Config {
    let mut text = format!("[run]\npending_list = {has_pending_list}\nread_count = 40\n");
    let policy = "ladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
        price_sources = [\"market.tick\"]\nmin_notional = \"0\"\n";
    text += "[policy]\n";
    text += policy;
    if is_live {
        text += "mode = \"live\"\non_live = \"take\"\nrequire_instrument = false\nresult_timeout_ms = 6000\n\
            retry_after_ms = 2000\nlive_risk_sources = [\"plan\", \"intent\", \"intent_nearest\"]\n\
            [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\n\
            max_decision_age_ms = 4000\n";
    }
    if has_accounts {
        text += "[accounts.main]\n[accounts.hedged]\n[policy.accounts.hedged]\nladder = \"0.4:0.2,0.8:0.3,1.2:0.3\"\n";
    }
    let file = tempfile::NamedTempFile::new().expect("a file of settings");
    std::fs::write(file.path(), text).expect("the settings are written");
    let key = has_key.then(|| ("HARVEST_SIGNING_KEY".to_owned(), "a secret of enough bytes".to_owned()));
    Config::from_parts(Some(file.path()), BTreeMap::from_iter(key)).expect("the settings of a simulation hold")
}
