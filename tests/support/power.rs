//! A power cut: the content of a disk after the power of a process has failed.
//!
//! The process runs with a library that keeps a copy of each file and of each folder's names when they are synced. At
//! the cut, each page that differs from its synced copy has reached the disk or not, at random, and so has each name
//! that was made, renamed or removed since its folder was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

const PAGE_BYTES: usize = 4096;

/// Keeps what is synced. A file is known by its number and its birth, because numbers are used again.
const SYNCS: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static int known_as(int at, const char *name, int flags, char *out, size_t size, int *is_folder) {
    struct statx s;
    if (statx(at, name, flags, STATX_BASIC_STATS | STATX_BTIME, &s)) return -1;
    snprintf(out, size, "%llu-%lld-%u", (unsigned long long)s.stx_ino, (long long)s.stx_btime.tv_sec, s.stx_btime.tv_nsec);
    *is_folder = S_ISDIR(s.stx_mode);
    return 0;
}
static void keep(int fd) {
    const char *folder = getenv("HARVESTER_SYNCED");
    char name[96], path[4096], part[4200], self[64], block[65536];
    int is_folder;
    if (!folder || known_as(fd, "", AT_EMPTY_PATH, name, sizeof name, &is_folder)) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(part, sizeof part, "%s.%ld.part", path, syscall(SYS_gettid));
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    FILE *out = fopen(part, "w");
    if (!out) return;
    if (is_folder) {
        DIR *names = opendir(self);
        for (struct dirent *entry; names && (entry = readdir(names));) {
            if (known_as(dirfd(names), entry->d_name, AT_SYMLINK_NOFOLLOW, name, sizeof name, &is_folder)) continue;
            fprintf(out, "%s %s\n", name, entry->d_name);
        }
        if (names) closedir(names);
    } else {
        int in = open(self, O_RDONLY);
        for (ssize_t read_bytes; (read_bytes = read(in, block, sizeof block)) > 0;) fwrite(block, 1, read_bytes, out);
        close(in);
    }
    fclose(out);
    rename(part, path);
}
// Of a slow disk: a cut is likely to come between a write and its sync.
int fsync(int fd) {
    usleep(3000);
    int failed = syscall(SYS_fsync, fd);
    if (!failed) keep(fd);
    return failed;
}
int fdatasync(int fd) {
    usleep(3000);
    int failed = syscall(SYS_fdatasync, fd);
    if (!failed) keep(fd);
    return failed;
}
"#;

/// Returns the library; `None` without a C compiler.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let build = || {
        let folder = tempfile::tempdir().ok()?;
        let (source, library) = (folder.path().join("syncs.c"), folder.path().join("syncs.so"));
        fs::write(&source, SYNCS).ok()?;
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        built.is_ok_and(|status| status.success()).then_some((folder, library))
    };
    BUILT.get_or_init(build).as_ref().map(|(_, library)| library.as_path())
}

/// A file or a folder.
#[derive(Clone)]
struct Node {
    known_as: String,
    is_folder: bool,
}

/// Counts of pages that were written and not synced, by what the cuts did to them. [1]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    pub kept: u64,
    pub dropped: u64,
}

/// The disk of a process whose power fails.
pub struct Power {
    library: &'static Path,
    root: PathBuf,
    synced: tempfile::TempDir,
    /// The files of the process at its start, which are all on disk.
    began: BTreeMap<PathBuf, (Node, Vec<u8>)>,
    pub pages: Pages,
}

impl Power {
    /// Watches the stores and journals in a folder. Returns `None` without a C compiler.
    pub fn of(root: &Path) -> Option<Self> {
        let synced = tempfile::tempdir().expect("a folder");
        Some(Self {
            library: library()?,
            root: root.to_owned(),
            synced,
            began: BTreeMap::new(),
            pages: Pages::default(),
        })
    }

    /// Prepares the start of a process.
    pub fn watch(&mut self, command: &mut Command) {
        self.synced = tempfile::tempdir().expect("a folder");
        self.began.clear();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for name in self.names(&folder) {
                let path = folder.join(&name);
                let Some(node) = self.node(&path) else { continue };
                let content = if node.is_folder { Vec::new() } else { self.read(&path) };
                if node.is_folder {
                    folders.push(path.clone());
                }
                self.began.insert(path, (node, content));
            }
        }
        command.env("LD_PRELOAD", self.library).env("HARVESTER_SYNCED", self.synced.path());
    }

    /// Cuts the power of a process that was killed. Leaves in the folder what the disk contains.
    pub fn cut(&mut self, random: &mut fastrand::Rng) {
        // Nothing, little, half or most of what was not synced has reached the disk.
        let new_of_8 = [0, 1, 4, 7][random.usize(..4)];
        self.settle(Path::new(""), &mut |random: &mut fastrand::Rng| random.u8(..8) < new_of_8, random);
    }

    fn settle(
        &mut self,
        folder: &Path,
        reaches: &mut impl FnMut(&mut fastrand::Rng) -> bool,
        random: &mut fastrand::Rng,
    ) {
        let (now, synced) = (self.names(folder), self.synced_names(folder));
        for name in now.iter().chain(synced.keys()).collect::<BTreeSet<_>>() {
            let path = folder.join(name);
            let (is, was) = (self.node(&path), synced.get(name));
            let is_as_synced = is.as_ref().map(|node| &node.known_as) == was;
            if let Some(node) = is.filter(|_| is_as_synced || reaches(random)) {
                if node.is_folder {
                    self.settle(&path, reaches, random);
                } else {
                    let (old, new) = (self.synced_content(&node.known_as).unwrap_or_default(), self.read(&path));
                    let bytes = self.mix(&old, &new, reaches, random);
                    fs::write(self.root.join(&path), bytes).expect("a file");
                }
            } else if !is_as_synced && (now.contains(name) || !reaches(random)) {
                // The change of the name is not on disk.
                self.remove(&path);
                if let Some(content) = was.and_then(|known_as| self.synced_content(known_as)) {
                    fs::write(self.root.join(&path), content).expect("a file");
                }
            }
        }
    }

    /// Mixes the pages of the written and of the synced file.
    fn mix(
        &mut self,
        old: &[u8],
        new: &[u8],
        reaches: &mut impl FnMut(&mut fastrand::Rng) -> bool,
        random: &mut fastrand::Rng,
    ) -> Vec<u8> {
        let len = if old.len() == new.len() || reaches(random) { new.len() } else { old.len() };
        let mut bytes = vec![0; len];
        for (n, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let (in_old, in_new) = (page_of(old, n, page.len()), page_of(new, n, page.len()));
            if in_old == in_new {
                page.copy_from_slice(&in_old);
            } else if reaches(random) {
                self.pages.kept += 1;
                page.copy_from_slice(&in_new);
            } else {
                self.pages.dropped += 1;
                page.copy_from_slice(&in_old);
            }
        }
        bytes
    }

    /// Returns the names in a folder that belong to stores and journals.
    fn names(&self, folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten();
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
        names.filter(|name| is_kept(folder, name)).collect()
    }

    /// Returns the names of a folder that are on disk, and the files that they name.
    fn synced_names(&self, folder: &Path) -> BTreeMap<String, String> {
        let known_as = known_as(&self.root.join(folder)).map(|(known_as, _)| known_as).unwrap_or_default();
        if let Ok(text) = fs::read_to_string(self.synced.path().join(known_as)) {
            let names = text.lines().filter_map(|line| line.split_once(' '));
            let names = names.filter(|(_, name)| !matches!(*name, "." | "..") && is_kept(folder, name));
            return names.map(|(known_as, name)| (name.to_owned(), known_as.to_owned())).collect();
        }
        let began = self.began.iter().filter(|(path, _)| path.parent() == Some(folder));
        let name = |path: &Path| path.file_name().expect("a name").to_str().expect("a plain name").to_owned();
        began.map(|(path, (node, _))| (name(path), node.known_as.clone())).collect()
    }

    /// Returns the content that a file has on disk; `None` for a folder, and for a file that was never synced.
    fn synced_content(&self, known_as: &str) -> Option<Vec<u8>> {
        let began = self.began.values().find(|(node, _)| node.known_as == known_as);
        if began.is_some_and(|(node, _)| node.is_folder) {
            return None;
        }
        fs::read(self.synced.path().join(known_as)).ok().or_else(|| began.map(|(_, content)| content.clone()))
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let (known_as, is_folder) = known_as(&self.root.join(path)).ok()?;
        Some(Node { known_as, is_folder })
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        fs::read(self.root.join(path)).expect("a file")
    }

    fn remove(&self, path: &Path) {
        let path = self.root.join(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        assert!(!removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound), "{} stays", path.display());
    }
}

/// Returns the name under which the library keeps a file or a folder.
fn known_as(path: &Path) -> io::Result<(String, bool)> {
    let metadata = fs::symlink_metadata(path)?;
    let born = metadata.created()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok((format!("{}-{}-{}", metadata.ino(), born.as_secs(), born.subsec_nanos()), metadata.is_dir()))
}

fn is_kept(folder: &Path, name: &str) -> bool {
    folder != Path::new("") || name.starts_with("store") || name.starts_with("journal")
}

/// Returns a page of a file, filled with zeros after the end of the file.
pub fn page_of(file: &[u8], n: usize, len: usize) -> Vec<u8> {
    let from = (n * PAGE_BYTES).min(file.len());
    let mut page = file[from..(from + len).min(file.len())].to_vec();
    page.resize(len, 0);
    page
}
