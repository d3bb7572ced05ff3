//! An adversary: a writer with full access to Redis, except for the signing key, tries to make a live service send an
//! order that the configured policy would not send, to hide an order, or to end the process. The attacks that were
//! tried and that failed are counted and printed.
//!
//! Each attack has its own world: a server, a live service, positions. `HARVESTER_ATTACKS` sets the number of random
//! ones.

mod attacks;
mod world;

use std::io::Write as _;

use attacks::{ATTACKS, Attack};
use world::World;

/// Returns the number of attacks that are composed at random; soak sets more. [1]
fn at_random() -> usize {
    std::env::var("HARVESTER_ATTACKS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// Makes the attacks one after the other in one world. Returns the promises that they broke.
fn breach(attacks: &[&Attack]) -> Option<String> {
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name).collect();
    eprintln!("attack: {}", names.join(" + "));
    let mut world = World::new();
    for attack in attacks {
        (attack.act)(&mut world);
    }
    world.breach().map(|why| format!("{}: {why}", names.join(" + ")))
}

fn print_counts(tried: usize, breaches: &[String], what: &str) {
    let held = tried - breaches.len();
    writeln!(std::io::stdout(), "attacks: {tried} tried, {held} held ({what})").expect("standard output is there");
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn forty_attacks_fail() {
    assert!(ATTACKS.len() >= 40, "{} attacks", ATTACKS.len());
    let breaches: Vec<String> = ATTACKS.iter().filter_map(|attack| breach(&[attack])).collect();
    print_counts(ATTACKS.len(), &breaches, "each by itself");
}

#[test]
fn attacks_composed_at_random_fail() {
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
    print_counts(tried, &breaches, &format!("at random, seed {seed}"));
}
