//! Points at which a build with debug assertions can be made to end as by a kill: `HARVESTER_FAIL=committed:3` ends the
//! process when it reaches `committed` for the third time. A release build has none of them.

#[cfg(debug_assertions)]
fn wanted() -> Option<&'static (String, u64)> {
    static WANTED: std::sync::OnceLock<Option<(String, u64)>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("HARVESTER_FAIL").ok()?;
        let (name, nth) = text.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    wanted.as_ref()
}

/// Returns true if the process is to end at this point. The caller then passes the point once for each event.
#[cfg(debug_assertions)]
pub fn is_wanted(name: &str) -> bool {
    wanted().is_some_and(|(wanted, _)| wanted == name)
}

#[cfg(not(debug_assertions))]
pub const fn is_wanted(_name: &str) -> bool {
    false
}

/// Ends the process as by a kill if the environment names this point and it was reached the wanted number of times.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    if let Some((wanted, nth)) = wanted()
        && wanted == name
        && COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        std::process::abort();
    }
}

/// Ends the process before it folds an entry: `HARVESTER_FAIL=entry 5-1:1`.
#[cfg(debug_assertions)]
pub fn entry(id: crate::domain::event::ids::EntryId) {
    point(&format!("entry {id}"));
}

#[cfg(not(debug_assertions))]
pub fn entry(_id: crate::domain::event::ids::EntryId) {}

#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
