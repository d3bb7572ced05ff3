//! Validates documents with the published schemas. Nothing is fetched: the catalogue contains every `$ref`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use harvester::codec::schemas;
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// The base under which the schemas name each other. It is not an address.
pub const BASE: &str = "https://harvester.invalid/schemas/";

/// The parsed schemas, by name.
pub static DOCUMENTS: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
    let parse = |text| serde_json::from_str(text).expect("a schema is JSON");
    schemas::all().iter().map(|schema| (schema.name, parse(schema.text))).collect()
});

static REGISTRY: LazyLock<Registry<'static>> = LazyLock::new(|| {
    let add = |registry: jsonschema::RegistryBuilder<'static>, (name, document): (&&str, &'static Value)| {
        registry.add(format!("{BASE}{name}.json"), document).expect("the name of a schema is a URI")
    };
    DOCUMENTS.iter().fold(Registry::new(), add).prepare().expect("every $ref is in the catalogue")
});

/// Returns all faults of `position` by the schema `name`, for example `apply.result.v2` or
/// `common.v1#/$defs/decimal`. Also validates the JSON texts inside against their `contentSchema`, which 2020-12
/// leaves to the application.
pub fn faults(name: &str, position: &Value) -> Vec<String> {
    let uri = match name.split_once('#') {
        Some((name, pointer)) => format!("{BASE}{name}.json#{pointer}"),
        None => format!("{BASE}{name}.json"),
    };
    faults_at(&uri, position)
}

/// What a program wrote validates, and every key of it is described.
pub fn expect_valid(whose: &str, name: &str, document: &Value) {
    assert_eq!(faults(name, document), Vec::<String>::new(), "{whose}: {name}: {document}");
    let mut unknown = Vec::new();
    let (file, part) = name.split_once('#').unwrap_or((name, ""));
    let schema = DOCUMENTS[file].pointer(part).expect("the schema has this part");
    undescribed(file, schema, document, "", &mut unknown);
    assert_eq!(unknown, Vec::<String>::new(), "{whose}: keys of {name} without a description");
}

/// Collects the keys of a document that its schema does not name.
fn undescribed(name: &str, schema: &Value, document: &Value, place: &str, unknown: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let of = reference.split_once(".json#").map_or(name, |(file, _)| file);
        return undescribed(of, resolve(name, reference).expect("it leads somewhere"), document, place, unknown);
    }
    // One of several ways: the one that has an answer to the document.
    if let Some(ways) = schema["anyOf"].as_array() {
        let lists = ways.iter().map(|way| {
            let mut list = Vec::new();
            undescribed(name, way, document, place, &mut list);
            list
        });
        unknown.extend(lists.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    match document {
        Value::Object(members) => {
            for (key, value) in members {
                let place = format!("{place}/{key}");
                match (schema["properties"].get(key), schema.get("additionalProperties")) {
                    (Some(inner), _) | (None, Some(inner)) => undescribed(name, inner, value, &place, unknown),
                    (None, None) => unknown.push(place),
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| undescribed(name, &schema["items"], item, &format!("{place}/*"), unknown));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The part of a schema that a `$ref` in `name` leads to.
pub fn resolve<'a>(name: &'a str, reference: &'a str) -> Option<&'static Value> {
    let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    let file = if file.is_empty() { name } else { file.strip_suffix(".json")? };
    DOCUMENTS.get(file)?.pointer(pointer)
}

fn faults_at(uri: &str, position: &Value) -> Vec<String> {
    let validator = validator(uri);
    // An evaluation that fails can come without errors (jsonschema 0.46), so the errors are read separately.
    let mut faults: Vec<String> =
        validator.iter_errors(position).map(|e| format!("{}: {e}", e.instance_path())).collect();
    let evaluation = validator.evaluate(position);
    assert_eq!(evaluation.flag().valid, faults.is_empty(), "both ways to validate agree on {position}");
    for note in evaluation.iter_annotations().filter(|note| note.schema_location.ends_with("/contentSchema")) {
        let place = note.instance_location.as_str();
        let text = position.pointer(place).and_then(Value::as_str).expect("content is text");
        let within = note.absolute_keyword_location.expect("every schema has an $id").as_str();
        // A JSON text that is itself a JSON string of an object is read as that object, once (docs/spec/streams.md).
        let inner = serde_json::from_str::<String>(text).ok();
        match serde_json::from_str::<Value>(inner.as_deref().unwrap_or(text)) {
            Ok(content) => faults.extend(content_faults(within, note.annotations.value(), &content, place)),
            // docs/spec/streams.md: text in `details` that is not an object is ignored.
            Err(_) if place == "/details" => {}
            Err(error) => faults.push(format!("{place:?}: {error}")),
        }
    }
    faults
}

fn content_faults(within: &str, schema: &Value, content: &Value, place: &str) -> Vec<String> {
    let document = within.split('#').next().unwrap_or(within);
    let reference = schema["$ref"].as_str().expect("a contentSchema starts with a $ref");
    let target =
        if reference.starts_with('#') { format!("{document}{reference}") } else { format!("{BASE}{reference}") };
    let mut faults = faults_at(&target, content);
    if schema.get("unevaluatedProperties") == Some(&json!(false)) {
        let closed = json!({"$ref": target, "unevaluatedProperties": false});
        faults.extend(build(&closed).iter_errors(content).map(|e| e.to_string()));
    }
    faults.into_iter().map(|fault| format!("in {place:?}: {fault}")).collect()
}

fn validator(uri: &str) -> Arc<Validator> {
    static BUILT: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || Arc::new(build(&json!({"$ref": uri})));
    Arc::clone(built.entry(uri.to_owned()).or_insert_with(make))
}

fn build(schema: &Value) -> Validator {
    let options = jsonschema::options().with_registry(&REGISTRY).should_validate_formats(true);
    options.build(schema).unwrap_or_else(|error| panic!("{schema}: {error}"))
}
