//! Settings of the process itself.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, geteuid, getpid, kill_process, set_dumpable_behavior, setrlimit, umask,
};

/// Disables core dumps, so that no crash writes the memory of this process with its secrets to a disk or to a program
/// that collects crashes. Also prevents other processes of the same user from reading the memory.
pub fn without_core_dumps() -> io::Result<()> {
    // A service manager may forbid changes of limits. The other measure is sufficient alone.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Makes new files readable only by this process's user, and new folders accessible only to it: positions, orders and
/// fills of an account are private. It also applies to the files of libraries.
pub fn with_private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Closes one of our folders to all other users if it exists and is open to them. A folder of another owner is left
/// unchanged.
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

/// Stops the process, as Ctrl-Z does in a terminal, until the shell continues it. Does nothing without a shell that
/// could continue it.
pub fn suspend() {
    let _ = kill_process(getpid(), Signal::TSTP);
}

/// Size from which an allocation returns to the system when it is freed. [bytes]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PIECE_BYTES: libc::c_int = 256 * 1024;

/// Keeps the memory use of the process stable.
///
/// By default, glibc raises the size from which freed memory returns to the system, up to 32 MiB, and lets each thread
/// keep twice as much. With the segments of the store (8 MiB), a service would grow for hours without more live data.
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
