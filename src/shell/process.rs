//! This process itself.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no crash writes the memory of this process, and the secrets in it, to a disk, nor to a program that
/// collects crashes; and no other process of the same user can look into it.
pub fn without_core_dumps() -> io::Result<()> {
    // A service manager may forbid to change limits; the first is enough by itself.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_process_without_core_dumps_is_not_dumpable() {
        without_core_dumps().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
