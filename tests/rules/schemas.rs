//! The published schemas: they are valid, every reference resolves, their examples validate, and they refuse what the
//! rules refuse.
//!
//! `contract` returns the faults of a document; the entries come from tables here, from the recorded history beside
//! the repository (if it is there) and from the replay cases.

mod decoded;
mod refused;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use crate::support::contract::{BASE, DOCUMENTS, faults, resolve};
use crate::support::{self, root, shared_history};
use harvester::domain::book::execution::Outcome;
use harvester::domain::book::rung::RungState;
use harvester::domain::event::Reason;
use harvester::domain::event::streams::StreamKind;
use harvester::domain::exit::Hold;
use serde_json::{Value, json};

/// Documents that we or others read: unknown fields are ignored.
const OPEN: [&str; 13] = [
    "apply.plan.v1",
    "apply.result.v1",
    "audit.report.v1",
    "doctor.v1",
    "explanation.v1",
    "harvest.observation.v1",
    "history-line.v1",
    "market.tick.v1",
    "position.snapshot.v1",
    "positions.v1",
    "replay.summary.v1",
    "status.v1",
    "trade.intent.v1",
];

#[test]
fn every_schema_is_valid_and_has_a_title_and_a_description() {
    let mut files: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(root().join("schemas")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        files.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    files.sort();
    assert_eq!(files, DOCUMENTS.keys().copied().collect::<Vec<_>>(), "schemas/*.json are the schemas of the program");
    for (name, schema) in DOCUMENTS.iter() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert_eq!(schema["$id"], format!("{BASE}{name}.json"));
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        for key in ["title", "description"] {
            assert!(schema[key].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {key}");
        }
        assert!(*name == "common.v1" || schema["examples"].as_array().is_some_and(|all| !all.is_empty()), "{name}");
    }
}

#[test]
fn the_names_of_the_code_are_those_of_the_schemas() {
    let common = &DOCUMENTS["common.v1"]["$defs"];
    assert_eq!(common["hold_reason"]["enum"], json!(Hold::ALL.map(Hold::name)), "in the order in which they apply");
    assert_eq!(common["quarantine_reason"]["enum"], json!(Reason::ALL.map(Reason::name)));
    assert_eq!(common["rung_state"]["enum"], json!(RungState::ALL.map(RungState::name)));
    let execution = &DOCUMENTS["audit.report.v1"]["$defs"]["execution"]["properties"];
    assert_eq!(execution["outcome"]["enum"], json!(Outcome::ALL.map(Outcome::name)));
}

#[test]
fn every_reference_resolves() {
    for (name, schema) in DOCUMENTS.iter() {
        walk(schema, "", &mut |part, place| {
            if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
                resolve(name, reference).unwrap_or_else(|| panic!("{name}{place}: {reference} does not resolve"));
            }
        });
    }
}

#[test]
fn every_example_validates() {
    let mut examples = 0;
    for (name, schema) in DOCUMENTS.iter() {
        walk(schema, "", &mut |part, place| {
            for example in part.get("examples").and_then(Value::as_array).into_iter().flatten() {
                let faults =
                    if place.is_empty() { entry_faults(name, example) } else { faults(&at(name, place), example) };
                assert!(faults.is_empty(), "{name}{place}: {example}: {faults:#?}");
                examples += 1;
            }
        });
    }
    assert!(examples > 100, "{examples} examples");
}

#[test]
fn every_number_names_its_unit() {
    for (name, schema) in DOCUMENTS.iter().filter(|(name, _)| **name != "common.v1") {
        walk(schema, "", &mut |part, place| {
            // Without a type it is a condition on properties that are described elsewhere.
            let described = part.get("properties").filter(|_| part["type"] == "object").and_then(Value::as_object);
            for (field, property) in described.into_iter().flatten().filter(|(_, property)| is_number(property)) {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.contains('['), "{name}{place}/{field}: no unit in {text:?}");
            }
        });
    }
}

#[test]
fn unknown_fields_are_ignored_on_input_and_refused_on_output() {
    for (name, schema) in DOCUMENTS.iter() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            for place in inside(example) {
                let mut more = example.clone();
                refused::change(&mut more, &format!("{place}/not_known_yet"), &Some(json!("x")));
                let open = OPEN.contains(name) || (*name == "harvest.control.v1" && place.is_empty());
                assert_eq!(entry_faults(name, &more).is_empty(), open, "{name}: {more}");
            }
        }
    }
}

#[test]
fn the_schemas_refuse_what_the_rules_refuse() {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, example, place, new, why) in refused::table() {
        let mut entry = DOCUMENTS[name]["examples"][example].clone();
        refused::change(&mut entry, place, &new);
        assert!(!entry_faults(name, &entry).is_empty(), "{name}: {why}: {entry}");
        *rows.entry(name).or_default() += 1;
    }
    for (part, written, why) in refused::common() {
        assert!(!faults(&at("common.v1", &format!("/$defs/{part}")), &written).is_empty(), "{part}: {why}: {written}");
        *rows.entry("common.v1").or_default() += 1;
    }
    for name in DOCUMENTS.keys() {
        assert!(rows.get(name).is_some_and(|&n| n >= 3), "{name} needs three rows at least");
    }
}

#[test]
fn every_shape_of_the_recorded_history_has_an_example_of_its_name() {
    let examples = DOCUMENTS["apply.result.v1"]["examples"].as_array().unwrap();
    let shapes = ["r_a", "r_b", "r_c", "e1"].map(|shape| format!("apply.result.v1#/$defs/{shape}"));
    let known = |entry: &Value| shapes.each_ref().map(|shape| faults(shape, entry).is_empty());
    let names: Vec<_> = examples[..6].iter().map(known).collect();
    let want = [0, 0, 1, 2, 3, 3].map(|shape| std::array::from_fn(|i| i == shape));
    assert_eq!(names, want, "each example is of one shape");
}

#[test]
fn the_recorded_history_validates_except_for_unreadable_entries() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for line in recorded() {
        let times = seen.entry(shape(&line)).or_default();
        *times += 1;
        if *times > 40 {
            continue;
        }
        let (faults, reason) = (line_faults(&line), decoded::refusal(&line));
        assert_eq!(faults.is_empty(), reason.is_none(), "{line}: {reason:?} {faults:#?}");
        refused.extend(reason.map(|reason| (line["stream"].as_str().unwrap().to_owned(), reason.name())));
    }
    let named: Vec<_> = refused.iter().map(|(stream, reason)| (stream.as_str(), *reason)).collect();
    let want = [
        ("quantum:stream:apply.result", "bad_number"),
        ("quantum:stream:market.tick", "no_price"),
        ("quantum:stream:position.snapshot", "no_quantity"),
        ("quantum:stream:trade.intent", "bad_json"),
        ("quantum:stream:trade.intent", "no_symbol"),
    ];
    assert!(seen.is_empty() || named == want, "{named:?}");
}

#[test]
fn entries_of_our_own_producers_have_the_recommended_form() {
    for line in recorded().filter(|line| line["fields"]["schema"] == "2") {
        let faults = faults("apply.result.v2", &line["fields"]);
        // These are read, but not recommended.
        let lower_case = line["fields"]["symbol"].as_str().unwrap().contains(|c: char| c.is_ascii_lowercase());
        assert_eq!(faults.is_empty(), !lower_case, "{line}: {faults:#?}");
    }
}

/// Returns the lines of the recorded history beside the project; none if it is not there.
fn recorded() -> impl Iterator<Item = Value> {
    let file = shared_history().map(|folder| std::fs::File::open(folder.join("2026-02-04.jsonl.zst")).unwrap());
    let lines = file.into_iter().flat_map(|file| BufReader::new(zstd::Decoder::new(file).unwrap()).lines());
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

#[test]
fn every_entry_of_the_replay_cases_validates_unless_it_is_quarantined() {
    for (case, lines) in cases() {
        let expected = std::fs::read_to_string(case.join("expected.jsonl")).unwrap_or_default();
        let named = |of: &Value| Some((of["stream"].as_str()?.to_owned(), of["id"].as_str()?.to_owned()));
        let expected = expected.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let quarantined: BTreeSet<_> = expected.filter_map(|line| named(line.get("quarantined")?)).collect();
        for line in lines {
            let faults = input_faults(&line);
            let aside = named(&line).is_some_and(|name| quarantined.contains(&name));
            assert!(aside || faults.is_empty(), "{}: {line}: {faults:#?}", case.display());
        }
    }
}

#[test]
fn no_schema_refuses_what_the_decoder_reads() {
    for (case, line) in cases().iter().flat_map(|(case, lines)| lines.iter().map(move |line| (case, line))) {
        let faults = input_faults(line);
        let unreadable = decoded::refusal(line).is_some();
        assert!(faults.is_empty() || unreadable, "{}: {line} is read: {faults:#?}", case.display());
    }
    for kind in StreamKind::ALL {
        // Entries that only we and operators write may be restricted more than the decoder requires.
        let ours = matches!(kind, StreamKind::Control | StreamKind::Observation | StreamKind::Decision);
        let name = schema_of_kind(kind);
        for (_, example, place, new, why) in refused::table().into_iter().filter(|row| row.0 == name && !ours) {
            let mut entry = DOCUMENTS[name]["examples"][example].clone();
            refused::change(&mut entry, place, &new);
            let line = json!({"stream": kind.default_stream(), "id": "1770163200000-0", "fields": entry});
            let reason = decoded::refusal(&line).map(Reason::name);
            assert!(reason.is_some_and(|reason| why.starts_with(reason)), "{name}: {why}: {reason:?} {line}");
        }
    }
}

/// Returns the replay cases with their entries.
fn cases() -> Vec<(PathBuf, Vec<Value>)> {
    let entries = |case: PathBuf| {
        let text = std::fs::read_to_string(case.join("events.jsonl")).ok()?;
        // A line that is not an entry is a bad line, not a fault of the schema.
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect();
        Some((case, lines))
    };
    support::cases().into_iter().filter_map(entries).collect()
}

#[test]
fn the_streams_and_the_schemas_are_tied_together() {
    let text = std::fs::read_to_string(root().join("schemas/asyncapi.yaml")).unwrap();
    let api: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(api["asyncapi"], "3.0.0");
    let mut used = BTreeSet::new();
    walk(&api, "", &mut |part, place| {
        if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            let found = match reference.strip_prefix("./").and_then(|file| file.strip_suffix(".json")) {
                Some(name) => DOCUMENTS.get_key_value(name).inspect(|(name, _)| _ = used.insert(**name)).is_some(),
                None => reference.strip_prefix('#').is_some_and(|pointer| api.pointer(pointer).is_some()),
            };
            assert!(found, "{place}: {reference} does not resolve");
        }
    });
    assert_eq!(used, DOCUMENTS.keys().copied().collect(), "every schema is used");
    let channels = api["channels"].as_object().unwrap();
    for kind in StreamKind::ALL {
        let channel = channels.values().find(|channel| channel["address"] == kind.default_stream());
        let channel = channel.unwrap_or_else(|| panic!("no channel for {}", kind.default_stream()));
        let carried = format!("./{}.json", schema_of_kind(kind));
        let messages = channel["messages"].as_object().unwrap().values();
        let carries =
            |m: &Value| api.pointer(&m["$ref"].as_str().unwrap()[1..]).unwrap()["payload"]["schema"]["$ref"] == carried;
        assert!(messages.clone().any(carries), "{} carries {carried}", kind.default_stream());
    }
    for (name, channel) in channels {
        let operated = api["operations"]
            .as_object()
            .unwrap()
            .values()
            .any(|o| o["channel"]["$ref"] == format!("#/channels/{name}"));
        let known =
            ["x-written-by", "x-read-by"].iter().all(|key| channel[key].as_array().is_some_and(|who| !who.is_empty()));
        assert!(operated && known, "channel {name} has no operation, writer or reader");
    }
}

#[test]
fn the_table_of_the_readme_lists_every_schema_once() {
    let text = std::fs::read_to_string(root().join("schemas/README.md")).unwrap();
    for name in DOCUMENTS.keys() {
        assert_eq!(text.matches(&format!("\n| `{name}.json` |")).count(), 1, "{name}");
    }
}

/// Returns the faults of a line that is read. A decision of a history may lack the `seq` that we always write: the
/// rungs that it took still count.
fn input_faults(line: &Value) -> Vec<String> {
    let mut faults = line_faults(line);
    if line["stream"] == StreamKind::Decision.default_stream() {
        faults.retain(|fault| !fault.ends_with("\"seq\" is a required property"));
    }
    faults
}

/// Returns the faults of a line of a history file and of the entry in it, by the schema of its stream.
fn line_faults(line: &Value) -> Vec<String> {
    let mut faults = faults("history-line.v1", line);
    let stream = line["stream"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default();
    if let (Some(name), Some(fields)) = (schema_of(stream), line.get("fields")) {
        faults.extend(entry_faults(name, fields));
    }
    faults
}

/// Returns the short name of the schema of a stream; `None` for streams that are not configured by default.
fn schema_of(stream: &str) -> Option<&'static str> {
    let kind = StreamKind::ALL.into_iter().find(|kind| kind.default_stream().ends_with(&format!(":{stream}")));
    let kind = match stream {
        "market.mark" | "exchange.raw" | "exchange.normalized" => Some(StreamKind::Price),
        _ => kind,
    };
    kind.map(schema_of_kind)
}

fn schema_of_kind(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Control => "harvest.control.v1",
        StreamKind::Observation => "harvest.observation.v1",
        StreamKind::Intent => "trade.intent.v1",
        StreamKind::Plan => "apply.plan.v1",
        StreamKind::Result => "apply.result.v1",
        StreamKind::Snapshot => "position.snapshot.v1",
        StreamKind::Price => "market.tick.v1",
        StreamKind::Decision => "harvest.decision.v1",
    }
}

/// Returns the faults of an entry; a result is also validated as a whole, with `details` over the flat fields.
fn entry_faults(name: &str, fields: &Value) -> Vec<String> {
    let mut all = faults(name, fields);
    if name == "apply.result.v1"
        && let Some(whole) = laid_over(fields)
    {
        all.extend(faults("apply.result.v1#/$defs/result", &whole));
    }
    all
}

fn laid_over(fields: &Value) -> Option<Value> {
    let details: Value = serde_json::from_str(fields.get("details")?.as_str()?).ok()?;
    let mut whole = fields.as_object()?.clone();
    for (key, value) in details.as_object()? {
        if !faults("common.v1#/$defs/absent", value).is_empty() {
            whole.insert(key.clone(), value.clone());
        }
    }
    let flat = !whole.contains_key("payload") && !whole.contains_key("data");
    flat.then_some(Value::Object(whole))
}

/// Returns the names of stream and keys, including those of the JSON texts inside.
fn shape(line: &Value) -> String {
    let mut shape = line["stream"].to_string();
    for (key, value) in line["fields"].as_object().into_iter().flatten() {
        let inner = value.as_str().and_then(|text| serde_json::from_str::<BTreeMap<String, Value>>(text).ok());
        shape += &format!(" {key}{:?}", inner.map(|map| map.into_keys().collect::<Vec<_>>()));
    }
    shape
}

/// Returns the places of an example where a field could be added: the document and the JSON objects inside.
fn inside(example: &Value) -> Vec<String> {
    let mut places = vec![if example.is_array() { "/0".to_owned() } else { String::new() }];
    if example.as_array().is_some_and(Vec::is_empty) {
        places.clear();
    }
    let texts = ["payload", "data", "details"].into_iter().filter(|key| example.get(key).is_some());
    places.extend(texts.map(|key| format!("/{key}")));
    places
}

fn is_number(property: &Value) -> bool {
    let reference = property.get("$ref").and_then(Value::as_str).unwrap_or_default();
    let named = ["decimal", "number_read", "quantity_read", "price_read", "positive_read", "/setting", "/positive"];
    let null_or = property.get("anyOf").and_then(Value::as_array).into_iter().flatten().any(is_number);
    let typed = matches!(property.get("type").and_then(Value::as_str), Some("integer" | "number"));
    typed || null_or || named.iter().any(|part| reference.contains(part))
}

fn at(name: &str, place: &str) -> String {
    format!("{name}#{place}")
}

/// Visits every part of a schema with its JSON pointer. The values of examples and constants are not schemas.
fn walk(part: &Value, place: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(part, place);
    let step = |key: &str| format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
    match part {
        Value::Object(map) => {
            for (key, value) in
                map.iter().filter(|(key, _)| !["examples", "default", "enum", "const"].contains(&&***key))
            {
                walk(value, &step(key), visit);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| walk(value, &step(&i.to_string()), visit))
        }
        _ => {}
    }
}
