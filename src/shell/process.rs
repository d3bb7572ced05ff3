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

/// What is allocated in one piece from here on goes back to the system when it is freed. [bytes]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PIECE_BYTES: libc::c_int = 256 * 1024;

/// From now on memory stays where it has come to.
///
/// glibc raises by itself, up to 32 MiB, what goes back to the system, and lets each thread keep twice as much: with the
/// segments of the store (8 MiB) a service grows for hours while it holds no more than before.
pub fn with_steady_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a setting of the C library, which has no other door")]
    // SAFETY: `mallopt` takes two numbers and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, PIECE_BYTES);
    }
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
