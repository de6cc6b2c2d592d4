//! The writing end of a journal's file: a line is written when it cannot be lost any more.
//!
//! A new file takes the place of the old one under another name first, so that a crash leaves one of
//! them whole. From the moment at which it has the name, everything goes into the new one, also if
//! the folder could not be synced: what goes into the old one is read by nobody. Until the folder is
//! synced, nothing counts as written, because after a power failure the name may be the old one's.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The file with its name.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    folder: PathBuf,
    file: std::fs::File,
    /// Whether its name is on the disk too.
    is_named: bool,
    /// Whether the last lines were written. Otherwise part of one may stand at the end.
    is_healthy: bool,
}

impl Writer {
    /// Begins a file with this content in the place of what is there.
    pub(super) fn open(path: &Path, content: &[u8]) -> io::Result<Writer> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut writer = Writer {
            path: path.to_owned(),
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            file: replace(path, content)?,
            is_named: false,
            is_healthy: true,
        };
        writer.name()?;
        Ok(writer)
    }

    /// Writes a whole new file, if there is one, and lines behind it; whether all of it is on the
    /// disk. The first failure after a success is logged.
    pub(super) fn write(&mut self, snapshot: Option<&[u8]>, lines: &[u8]) -> bool {
        let written = self.try_write(snapshot, lines);
        if let Err(error) = &written
            && self.is_healthy
        {
            tracing::error!(path = %self.path.display(), %error, "the journal is not written");
        }
        self.is_healthy = written.is_ok();
        self.is_healthy
    }

    fn try_write(&mut self, snapshot: Option<&[u8]>, lines: &[u8]) -> io::Result<()> {
        if let Some(snapshot) = snapshot {
            self.file = replace(&self.path, snapshot)?;
            self.is_named = false;
        }
        self.name()?;
        if !self.is_healthy {
            self.file.write_all(b"\n")?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()
    }

    /// Sees to it that the name is on the disk.
    fn name(&mut self) -> io::Result<()> {
        if !self.is_named {
            std::fs::File::open(&self.folder)?.sync_all()?;
            self.is_named = true;
        }
        Ok(())
    }
}

/// Makes a new file with this content take the place of the journal, locked.
fn replace(path: &Path, content: &[u8]) -> io::Result<std::fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let next = PathBuf::from(name);
    let mut file = std::fs::File::create(&next)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(&next, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_name_is_written_also_if_the_folder_was_not_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let mut writer = Writer::open(&path, b"").unwrap();
        assert!(writer.write(None, b"1\n"));
        writer.folder.push("not there");
        assert!(!writer.write(Some(b"1\n"), b"2\n"));
        assert!(!writer.write(None, b"3\n"), "the name may be lost yet");
        writer.folder.pop();
        assert!(writer.write(None, b"4\n"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n\n4\n");
    }

    #[test]
    fn what_was_not_written_leaves_the_former_file_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let mut writer = Writer::open(&path, b"").unwrap();
        let next = folder.path().join("keys.jsonl.new");
        std::fs::create_dir(&next).unwrap();
        assert!(!writer.write(Some(b"1\n"), b"2\n"));
        std::fs::remove_dir(&next).unwrap();
        assert!(writer.write(None, b"3\n"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\n3\n");
    }
}
