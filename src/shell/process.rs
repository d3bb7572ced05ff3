//! This process itself.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit, umask};

/// From now on no crash writes the memory of this process, and the secrets in it, to a disk, nor to a program that
/// collects crashes; and no other process of the same user can look into it.
pub fn without_core_dumps() -> io::Result<()> {
    // A service manager may forbid to change limits; the first is enough by itself.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// From now on files that this process makes are readable by its user alone, and folders can be entered by it alone:
/// positions, orders and fills of an account are nobody else's business. It holds for files of libraries, too.
pub fn with_private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Closes a folder of ours to all other users, if it is there and open to them. One that belongs to somebody else is left as
/// it is.
pub fn keep_private(folder: &Path) -> io::Result<()> {
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mode = metadata.permissions().mode();
    if !metadata.is_dir() || mode & 0o077 == 0 || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode & 0o700))
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
