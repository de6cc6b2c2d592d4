//! A wall clock for other processes, by libfaketime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A clock for children, which can be put forward and back.
pub struct Clock(PathBuf);

impl Clock {
    pub fn new(folder: &Path) -> Clock {
        let clock = Clock(folder.join("clock"));
        clock.set(0);
        clock
    }

    /// So many seconds from the true time.
    pub fn set(&self, seconds: i64) {
        // It is read at any moment: never half of it.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    pub fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", faketime().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// The library that fakes the time, where Debian has it.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let library = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
    let mut found = folders.map(library).filter(|path| path.exists());
    found
        .next()
        .expect("libfaketime: apt-get install libfaketime")
}
