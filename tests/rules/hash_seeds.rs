//! Hashes of names from outside have a seed that nobody outside knows (docs/decisions/0017-bound-what-outsiders-can-do.md):
//! a writer of entries must not be able to choose names that all fall into one bucket of a table.

use std::fs;

use crate::support::root;
use crate::support::rust::{code_of, files, words};

/// Hashers without a seed of the process, and the crates that are made of such.
const SEEDLESS: [&str; 19] = [
    "FixedState",
    "SeedableRandomState",
    "BuildHasherDefault",
    "DefaultHashBuilder",
    "DefaultHasher",
    "FxHashMap",
    "FxHashSet",
    "FxHasher",
    "FxBuildHasher",
    "FnvHashMap",
    "FnvHashSet",
    "FnvHasher",
    "BuildNoHashHasher",
    "rustc_hash",
    "fxhash",
    "fnv",
    "ahash",
    "nohash_hasher",
    "wyhash",
];

/// Where a hash is compared with another one of this process, and no table is made of it.
const COMPARED: [(&str, &str); 2] =
    [("src/drive/reel/index.rs", "DefaultHasher"), ("src/console/parts.rs", "DefaultHasher")];

#[test]
fn no_table_is_made_with_a_seed_that_outsiders_know() {
    let root = root();
    let mut found = Vec::new();
    for folder in ["src", "tools"] {
        for path in files(&root.join(folder)) {
            let code = code_of(&fs::read_to_string(&path).expect("a file"));
            let name = path.strip_prefix(&root).expect("a file of the project").to_str().expect("a name").to_owned();
            let seedless = words(&code).into_iter().filter(|word| SEEDLESS.contains(word));
            found.extend(seedless.map(|word| (name.clone(), word.to_owned())));
        }
    }
    found.sort();
    found.dedup();
    let mut wanted: Vec<_> = COMPARED.iter().map(|(file, word)| ((*file).to_owned(), (*word).to_owned())).collect();
    wanted.sort();
    assert_eq!(found, wanted, "use std::collections::HashMap, or foldhash::fast::RandomState where it is hot");
}

/// The tables of names from outside are fast, and have a seed.
#[test]
fn the_tables_of_names_have_a_seed_of_the_process() {
    for file in ["src/codec/decode/symbols.rs", "src/codec/decode/account.rs", "src/cli/audit/ledger.rs"] {
        let text = fs::read_to_string(root().join(file)).expect("a file");
        let code = code_of(&text);
        let tables: Vec<&str> =
            code.lines().filter(|line| line.contains(": HashMap<") && line.trim_end().ends_with(',')).collect();
        assert!(!tables.is_empty(), "{file} has a table");
        assert!(tables.iter().all(|table| table.contains("foldhash::fast::RandomState")), "{file}: {tables:?}");
    }
}
