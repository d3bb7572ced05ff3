//! An adversary: a writer with full access to Redis, but for the signing key, tries to make a live service send an order that
//! the configured policy would not send, to hide one, or to end the process. Tried and held are counted and printed.
//!
//! Each attack has a world of its own: a server, a live service, positions. More of them, at random: `HARVESTER_ATTACKS`.

mod attacks;
mod world;

use std::io::Write as _;

use attacks::{ATTACKS, Attack};
use world::World;

/// Attacks that are put together at random; soak asks for more. [1]
fn at_random() -> usize {
    std::env::var("HARVESTER_ATTACKS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// Makes the attacks one after the other in one world. Returns what was breached.
fn breach(attacks: &[&Attack]) -> Option<String> {
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name).collect();
    eprintln!("attack: {}", names.join(" + "));
    let mut world = World::new();
    for attack in attacks {
        (attack.act)(&mut world);
    }
    world.breach().map(|why| format!("{}: {why}", names.join(" + ")))
}

fn say(tried: usize, breaches: &[String], what: &str) {
    let held = tried - breaches.len();
    writeln!(std::io::stdout(), "attacks: {tried} tried, {held} held ({what})").expect("standard output is there");
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn forty_ways_are_tried_and_all_are_held() {
    assert!(ATTACKS.len() >= 40, "{} attacks", ATTACKS.len());
    let breaches: Vec<String> = ATTACKS.iter().filter_map(|attack| breach(&[attack])).collect();
    say(ATTACKS.len(), &breaches, "each by itself");
}

#[test]
fn attacks_put_together_at_random_are_held() {
    let seed = std::env::var("HARVESTER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let tried = at_random();
    let breaches: Vec<String> = (0..tried)
        .filter_map(|_| {
            let attacks: Vec<&Attack> =
                (0..random.usize(2..=4)).map(|_| &ATTACKS[random.usize(..ATTACKS.len())]).collect();
            breach(&attacks)
        })
        .collect();
    say(tried, &breaches, &format!("at random, seed {seed}"));
}
