//! This process itself.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// From now on no crash writes the memory of this process, and the secrets in it, to a disk.
pub fn without_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
