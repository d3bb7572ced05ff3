//! Properties of any bytes that are read as a history. libFuzzer and the tests use them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use harvester::codec::decode::{Decoder, Symbols, kills_when_read};
use harvester::codec::line::Fields;
use harvester::codec::signing::SigningKey;
use harvester::codec::state::{self, BadRow, Rows, StoredRow};
use harvester::codec::{line, policy, view};
use harvester::domain::book::intents::Intents;
use harvester::domain::book::symbol::Symbol;
use harvester::domain::engine::{Disposition, Engine};
use harvester::domain::event::ids::{EntryId, StreamId};
use harvester::domain::event::streams::{StreamKind, Streams};
use harvester::domain::event::{Control, Entry, Event, Reason};
use harvester::domain::exit::policy::Policy;
use harvester::drive::driver::Driver;
use serde::Deserialize;

/// The result of folding the bytes.
#[derive(Debug, Default)]
pub struct Folded {
    pub applied: u64,
    pub duplicates: u64,
    pub quarantined: u64,
    pub decisions: u64,
    /// Number of lines that are not entries of a configured stream.
    pub refused: u64,
    /// Kind of the stream, shape, and the reason if it was quarantined.
    pub seen: BTreeSet<(&'static str, &'static str, &'static str)>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Folds the bytes, one entry a line. Asserts that nothing panics, that every entry is counted exactly once, that
/// decisions come from applied entries and follow each other, and that the rows of a store read back unchanged.
pub fn fold(history: &[u8]) -> Folded {
    let streams = Streams::default();
    let mut driver = Driver::with_key(Engine::new(streams.clone(), Policy::default()), None);
    let mut folded = Folded::default();
    for text in history.split(|&byte| byte == b'\n') {
        let Some(entry) = entry(text, &mut driver) else {
            folded.refused += 1;
            continue;
        };
        let counted = driver.engine.counters.entries();
        let mut before = driver.engine.globals().chain.hash.to_string();
        let step = driver.fold(&entry);
        assert_eq!(driver.engine.counters.entries(), counted + 1, "an entry is counted once: {entry:?}");
        let reason = match step.disposition {
            Disposition::Applied => {
                folded.applied += 1;
                ""
            }
            Disposition::Duplicate => {
                folded.duplicates += 1;
                ""
            }
            Disposition::Quarantined(reason) => {
                folded.quarantined += 1;
                reason.name()
            }
        };
        folded.seen.insert((entry.kind.name(), entry.shape, reason));
        for (_, sealed) in step.decided {
            assert_eq!(step.disposition, Disposition::Applied, "{entry:?}");
            assert_eq!(sealed.prev, before, "a decision follows the one before it");
            before.clone_from(&sealed.hash);
            folded.decisions += 1;
        }
    }
    let engine = driver.engine;
    let counters = &engine.counters;
    assert_eq!(counters.applied, folded.applied);
    assert_eq!(counters.duplicates, folded.duplicates);
    assert_eq!(counters.quarantined.values().sum::<u64>(), folded.quarantined);
    assert_eq!(counters.decisions, folded.decisions);
    assert_eq!(view::Summary::of(&engine, counters).entries, counters.entries());
    view::positions(&engine, true);
    reads_back(engine, streams);
    folded
}

/// Members that a control entry of any name may have.
const CONTROL_EVENTS: [&str; 8] = [
    "policy.adopted",
    "kill.changed",
    "history.gap",
    "gap.accepted",
    "risk.accepted",
    "decision.expired",
    "rung.rearmed",
    "entry.skipped",
];

/// Folds the bytes as the payload of each control entry, and as the policy of one. Asserts that nothing panics, that
/// the rows of a store read back, and that an unreadable policy or kill switch kills. Returns the shapes, with the
/// reasons of what was refused.
pub fn control(payload: &[u8]) -> BTreeSet<(&'static str, &'static str)> {
    let streams = Streams::default();
    let mut seen = BTreeSet::new();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let entries = CONTROL_EVENTS.iter().map(|event| (*event, "payload")).chain([("policy.adopted", "policy")]);
    for ((event, field), seq) in entries.zip(1..) {
        let mut driver = Driver::with_key(Engine::new(streams.clone(), Policy::default()), None);
        let stream = StreamKind::Control.default_stream();
        let pairs = [(bytes("event_type"), bytes(event)), (bytes(field), payload.to_vec())];
        let text = line::write(stream, &format!("1770163200000-{seq}"), &Fields::from_bytes(&pairs));
        let entry = entry(text.as_bytes(), &mut driver).expect("a line that we wrote is an entry");
        let step = driver.fold(&entry);
        let reason = match step.disposition {
            Disposition::Quarantined(reason) => {
                let is_safety = matches!(event, "policy.adopted" | "kill.changed");
                assert!(!is_safety || driver.engine.globals().killed, "{event}: an unreadable entry kills");
                reason.name()
            }
            Disposition::Applied | Disposition::Duplicate => "",
        };
        if let Ok(Event::Control(control)) = &entry.content
            && let Control::PolicyAdopted(Some(policy)) = &control.control
        {
            let again = policy::from_json(&policy::to_json(policy)).expect("a policy reads back");
            assert_eq!(again, **policy);
        }
        seen.insert((entry.shape, reason));
        reads_back(driver.engine, streams.clone());
    }
    seen
}

/// Returns the entry of a line, on which the fast path for prices and the general decoder must agree.
fn entry(text: &[u8], driver: &mut Driver) -> Option<Entry> {
    let head: Head<'_> = serde_json::from_slice(text).ok()?;
    let stream = driver.streams().id_of(&head.stream)?;
    let id = EntryId::parse(head.id.as_bytes())?;
    let short = driver.decode_line(stream, id, text).ok();
    let long = line::fields(text).ok().map(|fields| driver.decode(stream, id, &fields));
    assert_eq!(short, long, "{}", String::from_utf8_lossy(text));
    if let (Ok(fields), StreamKind::Control | StreamKind::Decision) =
        (line::fields(text), driver.streams().kind(stream))
    {
        believed(driver.streams(), stream, id, &fields, short.as_ref());
    }
    short
}

/// Asserts, for a service with a key, that an unsigned entry that loosens is refused, and that an unreadable one
/// kills at once.
fn believed(streams: &Streams, stream: StreamId, id: EntryId, fields: &Fields<'_>, read: Option<&Entry>) {
    let key = SigningKey::new(b"a secret of enough bytes").expect("a key");
    let verified = Decoder::new(streams.clone(), Symbols::default()).with_key(Some(key)).decode(stream, id, fields);
    match read.map(|entry| &entry.content) {
        Some(Ok(Event::Control(fact))) if fact.control.loosens() => {
            let refused = matches!(&verified.content, Err(unreadable) if unreadable.reason == Reason::BadSignature);
            assert!(refused, "{fields:?}");
        }
        Some(Err(unreadable)) if unreadable.kills => assert!(kills_when_read(fields), "{fields:?}"),
        Some(Ok(Event::Decision(_))) => {
            let is_sealed = matches!(&verified.content, Ok(Event::Decision(fact)) if fact.is_sealed);
            assert!(!is_sealed, "{fields:?}");
        }
        Some(Ok(_) | Err(_)) | None => {}
    }
}

/// The rows of a store, in memory.
struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Kept {
    type Error = BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
        let from = self.0.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Returns the symbols, and their intents by the name of the account, since accounts may be loaded in another order.
fn symbols_of(engine: &Engine) -> Vec<(Symbol, BTreeMap<&str, Intents>)> {
    let of = |symbol: &Symbol| {
        let mut symbol = symbol.clone();
        let of_accounts = std::mem::take(&mut symbol.of_accounts).into_iter();
        let by_name = of_accounts.map(|(account, intents)| (&*engine.accounts().get(account).name, intents)).collect();
        (symbol, by_name)
    };
    engine.symbols().map(of).collect()
}

fn reads_back(mut engine: Engine, streams: Streams) {
    let changes = engine.take_changes();
    let rows = state::changed_rows(&engine, &changes, &mut 0);
    let kept = Kept(rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect());
    let mut loaded = Engine::new(streams.clone(), Policy::default());
    state::load(&kept, &streams, &mut loaded).expect("what was written reads");
    assert_eq!(loaded.globals(), engine.globals());
    assert_eq!(loaded.symbols().len(), engine.symbols().len());
    assert!(symbols_of(&loaded) == symbols_of(&engine));
    // Books that only later entries name again may be loaded in another order.
    for wrote in engine.books() {
        let read = loaded.book(loaded.find_book(&wrote.name).expect("a book that was written is read"));
        assert_eq!((&read.name, &read.hot, &read.orders), (&wrote.name, &wrote.hot, &wrote.orders));
    }
    for (stream, _) in streams.iter() {
        assert_eq!(loaded.cursor(stream), engine.cursor(stream));
    }
}
