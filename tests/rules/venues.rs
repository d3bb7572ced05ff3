//! The words of an exchange stay in its folder, so that another one is a folder and a line.

use std::collections::BTreeSet;
use std::fs;

use crate::support::root;
use crate::support::rust::{files, read, ships, stem};

/// Words by which a venue is known, in lower case: its name, its paths, headers, parameters, events and codes.
const OF_VENUES: [(&str, &[&str]); 1] = [(
    "binance",
    &[
        "binance",
        "fapi",
        "x-mbx",
        "listenkey",
        "premiumindex",
        "positionrisk",
        "positionside/dual",
        "usertrades",
        "exchangeinfo",
        "recvwindow",
        "servertime",
        "fromid",
        "order_trade_update",
        "account_update",
        "markprice@",
        "autoclose",
        "-1003",
        "-1006",
        "-1007",
        "-1021",
        "-1022",
        "-1121",
        "-1125",
        "-2008",
        "-2014",
        "-2015",
        "-2015",
    ],
)];

#[test]
fn the_words_of_a_venue_stay_in_its_folder() {
    let src = root().join("src");
    let venues = src.join("codec/exchange");
    let folders: BTreeSet<String> = fs::read_dir(&venues)
        .expect("the exchanges are a folder")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.is_dir())
        .filter_map(|path| stem(&path))
        .collect();
    assert_eq!(folders, OF_VENUES.iter().map(|(venue, _)| (*venue).to_owned()).collect(), "each venue has its words");
    let mut wrong = Vec::new();
    for (venue, its) in OF_VENUES {
        let folder = venues.join(venue);
        let others = files(&src).into_iter().filter(|path| !path.starts_with(&folder) && !path.ends_with("tests.rs"));
        for path in &others.collect::<Vec<_>>() {
            // The table of venues names the folder, and nothing that is in it.
            let is_table = *path == venues.join("mod.rs");
            let ships = ships(&read(path)).to_lowercase();
            let found = its.iter().filter(|word| !(is_table && **word == venue) && ships.contains(*word));
            wrong.extend(found.map(|word| format!("{} says {word}", path.display())));
        }
        let own: String = files(&folder).iter().map(|path| read(path).to_lowercase()).collect();
        wrong.extend(its.iter().filter(|word| !own.contains(*word)).map(|word| format!("{venue} does not say {word}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
