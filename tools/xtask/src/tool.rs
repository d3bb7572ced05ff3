//! Programs that tasks need and that cargo builds: from the crate registry into the target folder.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{answers, cargo, program, run, target};

/// A program of the crate registry.
pub struct Tool {
    /// The name of the crate and of its program.
    pub name: &'static str,
    pub version: &'static str,
    /// More arguments of `cargo install`, such as the features that it needs.
    pub features: &'static [&'static str],
}

impl Tool {
    /// Returns the path of the program. Builds it first if it is missing.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        self.installed().map_or_else(|| self.install(), Ok)
    }

    fn folder() -> anyhow::Result<PathBuf> {
        Ok(target()?.join("tools"))
    }

    fn installed(&self) -> Option<PathBuf> {
        let ours = Self::folder().ok()?.join("bin").join(self.name);
        [ours, self.name.into()].into_iter().find(|path| answers(program(path).arg("--version")))
    }

    /// Builds the program without optimization: it runs for a second and would take minutes to optimize.
    fn install(&self) -> anyhow::Result<PathBuf> {
        let folder = Self::folder()?;
        let built = folder.join("build");
        run(cargo()
            .args(["install", self.name, "--version", self.version, "--locked", "--quiet", "--debug"])
            .args(self.features)
            .arg("--root")
            .arg(&folder)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_TARGET_DIR", &built))?;
        std::fs::remove_dir_all(&built).with_context(|| format!("cannot remove {}", built.display()))?;
        Ok(folder.join("bin").join(self.name))
    }
}
