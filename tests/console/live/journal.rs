//! A journal that is read while it grows.

use std::sync::Arc;

use serde_json::Value;

use crate::night;
use crate::support::config;
use harvester::codec::checksum::state_checksum;
use harvester::domain::event::ids::EntryId;
use harvester::drive::film::{Film, Origin};
use harvester::drive::reel::{Bounds, Reel};
use harvester::drive::snapshots;
use harvester::drive::stop::Stop;
use harvester::shell::journal::{Journal, Limits};

/// The night as a journal that grows.
#[test]
fn a_journal_read_in_parts_gives_the_film_of_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, snapshots_dir) = (folder.path().join("journal"), folder.path().join("state.snapshots"));
    let text = std::fs::read_to_string(night()).expect("the night");
    let lines: Vec<&str> = text.lines().collect();
    let config = Arc::new(config(None));
    let mut journal = Journal::open(&dir, Limits { rotate_bytes: 4_000 }).expect("a journal");
    let mut append = |lines: &[&str]| {
        for line in lines {
            let head: Value = serde_json::from_str(line).expect("JSON");
            let id: EntryId = head["id"].as_str().expect("an id").parse().expect("an id");
            journal.append(line, id.ms);
        }
        journal.commit().expect("a commit");
    };
    let origin = Origin::Journal(dir.clone());
    let never = Stop::never();
    let read = |bounds: &Bounds| Reel::read(origin.clone(), Arc::clone(&config), bounds, &never).expect("it reads");

    append(&lines[..400]);
    let mut reel = read(&Bounds::default());
    assert!(!reel.read_on(&never).expect("there are no new entries"));
    let early = reel.film();
    let snapshot =
        snapshots::take(&snapshots_dir, &early.state(None, &never).expect("a state"), &config.policy, Some(400));
    snapshot.expect("a snapshot");
    for part in lines[400..].chunks(37) {
        append(part);
        assert!(reel.read_on(&never).expect("the new entries are read"));
    }
    let (followed, whole) = (reel.film(), Film::read(origin.clone(), Arc::clone(&config), &never).expect("it reads"));
    assert_eq!((early.entries, followed.entries), (400, lines.len() as u64), "a film does not change");
    let bounds = Bounds { snapshots: Some(snapshots_dir), entries: 100, ..Bounds::default() };
    let begun = read(&bounds).film();
    let moments = [None, Some("02:07"), Some("02:08:11"), Some("02:10")];
    for at in moments {
        let state = |film: &Film| {
            let at = at.map(|at| film.until(at).expect("a moment"));
            state_checksum(&film.state(at, &never).expect("a state"))
        };
        assert_eq!(state(&followed), state(&whole), "{at:?}");
        if at.is_none() {
            assert_eq!(state(&begun), state(&whole), "from a snapshot");
        }
    }
    let of = |film: &Film| {
        let steps = (0..lines.len()).step_by(50).map(|n| {
            let head: Value = serde_json::from_str(lines[n]).expect("JSON");
            film.around(head["id"].as_str().expect("an id").parse().expect("an id"), Some("ETHUSDT"))
        });
        (
            film.first,
            film.last,
            film.decisions.links.len(),
            film.parts.iter().sum::<u32>(),
            film.quarantined.len(),
            steps.collect::<Vec<_>>(),
        )
    };
    assert_eq!(of(&followed), of(&whole));
    assert!(begun.notices.iter().any(|notice| notice.contains("begin after 400 entries")), "{:?}", begun.notices);
    let too_early = begun.state(Some(early.first), &never).expect_err("a refusal");
    assert!(too_early.to_string().contains("harvester console --journal"), "{too_early}");
}
