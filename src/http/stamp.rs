//! Whether a file is still the one that was read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// What changes when a file is written, or another is put in its place: a time that a program sets and
/// a length can be those of the file before, the other three cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    modified: SystemTime,
    /// Length of the file.
    pub(super) bytes: u64,
}

impl Stamp {
    /// The stamp of the file that has this path now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: metadata.modified()?,
            bytes: metadata.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_length_and_time_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("tokens"), folder.path().join("other"));
        std::fs::write(&path, "[1]").unwrap();
        std::fs::write(&other, "[2]").unwrap();
        let before = Stamp::of(&path).unwrap();
        let file = std::fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(before.modified).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let now = Stamp::of(&path).unwrap();
        assert_eq!((now.modified, now.bytes), (before.modified, before.bytes));
        assert_ne!(now, before);
    }
}
