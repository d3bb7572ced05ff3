//! A delivery whose events a test makes, and the actions that it asks for as texts.

use super::{CONTROL, INTENT, RESULT, TICK};
use crate::support::lab::{Came, Lab, entry_line};
use harvester::codec::seal::Sealed;
use harvester::config::Config;
use harvester::domain::delivery::action::{Action, Appended, Looked, Notice, Offer, OfferAnswer, Remembered};
use harvester::domain::delivery::gap::{GapReason, StreamGap};
use harvester::domain::delivery::own_entry::OwnEntry;
use harvester::domain::delivery::row::{OutboxRow, SOMEWHERE};
use harvester::domain::delivery::{Delivery, Folded, Lease, Restored, Settings};
use harvester::domain::engine::Disposition;
use harvester::domain::event::ids::{EntryId, StreamId};

/// The end of a lease that does not expire in a test. [ms]
pub const LONG: u64 = 1_000_000;

/// A delivery with an engine, and a clock that moves only when a test moves it.
pub struct Rig {
    pub lab: Lab,
    pub delivery: Delivery,
    pub now_ms: u64,
    /// True if decisions are orders.
    pub live: bool,
}

impl Rig {
    pub fn new(settings: Settings) -> Self {
        let config = Config::from_parts(None, std::collections::BTreeMap::new()).expect("the defaults hold");
        Self::going_on(Lab::new(&config), settings, Restored::default())
    }

    /// A process that goes on from a state of the engine, and from what an earlier process has left beside it.
    pub fn going_on(lab: Lab, settings: Settings, restored: Restored) -> Self {
        let config = Config::from_parts(None, std::collections::BTreeMap::new()).expect("the defaults hold");
        let settings = Settings { control: CONTROL.into(), policy: config.policy.hash.clone(), ..settings };
        let mut delivery = Delivery::new(settings, restored, &lab.engine);
        delivery.handle_connected();
        Self { lab, delivery, now_ms: 1, live: false }
    }

    /// Returns a rig that leads, has caught up, and whose configured policy is in the log.
    pub fn leading(settings: Settings) -> Self {
        let mut rig = Self::new(settings);
        rig.lead("1 a");
        assert_eq!(rig.actions(), ["append 0 PolicyInForce"]);
        rig.delivery.handle_appended(0, Appended::Written(EntryId::new(5, 0), None), 1, &rig.lab.engine);
        let back = rig.lab.engine.streams().id_of(CONTROL).expect("a control stream");
        rig.delivery.handle_turn(back, EntryId::new(5, 0));
        rig.control("5-0", "gap.accepted", "{}");
        rig.sync();
        assert_eq!(rig.actions(), ["acknowledge 5-0"]);
        rig.delivery.handle_acknowledged();
        rig
    }

    pub fn lead(&mut self, lease: &str) {
        let lease = Lease { value: lease.to_owned(), until_ms: LONG };
        self.delivery.handle_lease(Some(lease), 100, &self.lab.engine);
        self.delivery.handle_server_time(101);
        self.delivery.handle_watermark(101);
    }

    /// Folds a line. Its decision is an order if the rig is live.
    pub fn feed(&mut self, line: &str) {
        let Came { entry, step, sealed, further } = self.lab.feed(line);
        let live = self.live;
        let folded = Folded {
            entry: &entry,
            is_new: true,
            by_group: true,
            disposition: step.disposition,
            is_skipped: false,
            is_foreign: false,
            decided: sealed
                .iter()
                .chain(further.iter().map(|(_, sealed)| sealed))
                .map(|sealed| row(sealed, entry.id.ms, live))
                .collect(),
            seen: None,
            record: matches!(step.disposition, Disposition::Quarantined(_)).then(Vec::new),
        };
        self.delivery.handle_folded(folded, self.now_ms, &self.lab.engine);
    }

    /// A decision comes back.
    pub fn see(&mut self, seen: OutboxRow) {
        let line = entry_line(TICK, "1770163200008-0", &[("event_type", "market.tick"), ("payload", "{}")]);
        let came = self.lab.feed(&line);
        let folded = Folded {
            entry: &came.entry,
            is_new: true,
            by_group: true,
            disposition: Disposition::Applied,
            is_skipped: false,
            is_foreign: false,
            decided: Vec::new(),
            seen: Some(seen),
            record: None,
        };
        self.delivery.handle_folded(folded, self.now_ms, &self.lab.engine);
    }

    pub fn control(&mut self, id: &str, event_type: &str, payload: &str) {
        self.feed(&entry_line(CONTROL, id, &[("event_type", event_type), ("payload", payload)]));
    }

    /// Opens 10 of a symbol at 100 with a risk of 2 each, and sells at a price: one decision.
    pub fn decide(&mut self, symbol: &str, ms: u64) {
        let intent =
            format!(r#"{{"symbol":"{symbol}","side":"BUY","entry_price":100,"atr_value":2,"volatility_factor":1}}"#);
        self.feed(&entry_line(INTENT, &format!("{ms}-0"), &[("event_type", "trade.intent"), ("payload", &intent)]));
        let order = ms.to_string();
        let fill = [
            ("symbol", symbol),
            ("executed", "true"),
            ("reduceOnly", "false"),
            ("executedQty", "10"),
            ("avgPrice", "100"),
            ("orderId", &order),
            ("order_status", "FILLED"),
            ("side", "BUY"),
        ];
        self.feed(&entry_line(RESULT, &format!("{}-0", ms + 1), &fill));
        let price = format!(r#"{{"symbol":"{symbol}","price":103.6}}"#);
        self.feed(&entry_line(TICK, &format!("{}-0", ms + 2), &[("event_type", "market.tick"), ("payload", &price)]));
    }

    /// Feeds the sale of a part of a position by another program.
    pub fn sell(&mut self, symbol: &str, qty: &str) {
        let sold = [
            ("symbol", symbol),
            ("executed", "true"),
            ("reduceOnly", "true"),
            ("executedQty", qty),
            ("avgPrice", "100"),
            ("orderId", "77"),
            ("order_status", "FILLED"),
            ("side", "SELL"),
        ];
        self.feed(&entry_line(RESULT, "1770163200005-0", &sold));
    }

    pub fn sync(&mut self) {
        let (folded, _) = self.delivery.journal();
        self.delivery.handle_synced(folded);
    }

    /// Returns all actions that delivery asks for now.
    pub fn actions(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(action) = self.delivery.next_action(&self.lab.engine, self.now_ms) {
            all.push(shown(&action));
        }
        all
    }

    pub fn written(&mut self, seq: u64, ms: u64) {
        let answer = OfferAnswer::Written { entry: EntryId::new(ms, 0), refusal: None, is_new: true };
        self.delivery.handle_offered(seq, answer, self.now_ms);
    }

    /// The server was asked for a decision. `remembered` is the entry that its memory names.
    pub fn looked(&mut self, seq: u64, is_there: bool, remembered: Option<Remembered>) {
        let entry = self.delivery.outbox().get(seq).expect("a decision").written.filter(|entry| *entry != SOMEWHERE);
        self.delivery.handle_checked(&[Looked { seq, entry, is_there, remembered }], &self.lab.engine);
    }

    pub fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.delivery.next_notice()).collect()
    }

    pub fn gap(&mut self, count: Option<u64>) {
        let gap = StreamGap {
            stream: StreamId(0),
            after: Some(EntryId::new(1, 0)),
            before: Some(EntryId::new(9, 0)),
            count,
            shift: 3,
            added: 12,
            why: GapReason::Trimmed,
        };
        self.delivery.handle_gap(gap, &self.lab.engine);
    }
}

fn row(sealed: &Sealed, cause_ms: u64, live: bool) -> OutboxRow {
    let config = Config::from_parts(None, std::collections::BTreeMap::new()).expect("the defaults hold");
    OutboxRow {
        seq: sealed.seq,
        decision_id: sealed.decision_id.clone(),
        fields: sealed.texts(),
        request: Some((if live { "apply.plan" } else { "suggestions" }.to_owned(), Vec::new())),
        live,
        policy: config.policy.hash.to_string(),
        account: String::new(),
        cause_ms,
        written: None,
        record_only: false,
        again: false,
    }
}

fn shown(action: &Action) -> String {
    let ids = |ids: &[EntryId]| ids.iter().map(EntryId::to_string).collect::<Vec<_>>().join(" ");
    let offer = |offer: &Offer| {
        let mut text = format!(" {}", offer.row.seq);
        for (name, is_so) in [("again", offer.row.again), ("record-only", offer.row.record_only)] {
            text += &if is_so { format!(" {name}") } else { String::new() };
        }
        text += &offer.refusal.map(|why| format!(" refused:{why}")).unwrap_or_default();
        text += &offer.after.map(|id| format!(" after:{id}")).unwrap_or_default();
        text + if offer.needs.is_some() { " needs" } else { "" }
    };
    match action {
        Action::Checkpoint => "checkpoint".to_owned(),
        Action::Append(append) => {
            let entry = match &append.entry {
                OwnEntry::Gap(_) => "Gap".to_owned(),
                OwnEntry::Skipped { stream, id, why } => format!("Skipped {stream} {id} {why}"),
                entry @ (OwnEntry::NewPolicy
                | OwnEntry::PolicyInForce
                | OwnEntry::AccountPolicy { .. }
                | OwnEntry::Kill(_)) => format!("{entry:?}"),
            };
            format!("append {} {entry}{}", append.number, if append.tried.is_some() { " again" } else { "" })
        }
        Action::Offer(offers) => format!("offer{}", offers.iter().map(offer).collect::<Vec<_>>().join(",")),
        Action::Check(all) => format!("check {}", all.iter().map(|w| w.seq.to_string()).collect::<Vec<_>>().join(" ")),
        Action::Recall { from, to } => format!("recall {from}..{to}"),
        Action::Acknowledge(all) => {
            let all: Vec<EntryId> = all.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
            format!("acknowledge {}", ids(&all))
        }
        Action::Record(all) => {
            let one = |record: &harvester::domain::delivery::action::Record| {
                format!(" {}{}", record.id, if record.is_doubtful { "?" } else { "" })
            };
            format!("record{}", all.iter().map(one).collect::<String>())
        }
    }
}
