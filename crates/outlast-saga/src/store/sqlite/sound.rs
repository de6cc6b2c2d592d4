//! Whether a file and what lies beside it are all there, before SQLite looks at them.
//!
//! SQLite is kind to what it finds: an empty file is a new one, and of the write-ahead log it takes what
//! comes before the first damaged frame and forgets the rest, because that is how a transaction looks
//! that a crash has cut off. Damage looks the same, and what it takes away was promised to somebody. So
//! three things are looked at here that tell the two apart.
//!
//! - The lock beside the file says that it had tables. An empty file had none, or has lost them.
//! - A transaction is written when the one before it is on the disk. So a crash cuts off the last one
//!   only: behind a damaged frame there is never a run of frames with the ends of two.
//! - The index beside the log (`-shm`) counts the frames whose transactions have ended, and is written
//!   when they are on the disk. A log with fewer has lost some.
//!
//! What none of them tells: a damaged last transaction after the machine, and not only the process, has
//! died, when the index is older than the log. Nothing tells it from one that was cut off.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Looks at all of it.
pub(super) fn check(path: &Path, lock: &mut File) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let length = length(path).map_err(failed)?;
    let log = Log::read(&beside(path, "-wal")).map_err(failed)?;
    let is_left = |log: &Log| log.length > HEADER;
    match length {
        None if is_left(&log) => {
            let message = "it is gone, and its log (`-wal`) is still there";
            return Err(StoreError::Corrupt(message.to_owned()));
        }
        // Whoever moved it away begins anew.
        None => return lock.set_len(0).map_err(failed),
        // SQLite takes a single byte for nothing, too.
        Some(0 | 1) if is_left(&log) || had_tables(lock).map_err(failed)? => {
            let message = "the file is empty, and had tables";
            return Err(StoreError::Corrupt(message.to_owned()));
        }
        // A checkpoint that was cut off is made again from the log.
        Some(length) if length % SMALLEST_PAGE != 0 && !is_left(&log) => {
            let message = format!("the file ends within a page, at {length} bytes");
            return Err(StoreError::Corrupt(message));
        }
        Some(_) => {}
    }
    let counted = Counted::read(&beside(path, "-shm")).map_err(failed)?;
    log.check(counted.as_ref()).map_err(StoreError::Corrupt)
}

/// Notes that the file has tables.
pub(super) fn has_tables(path: &Path, lock: &mut File) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    if had_tables(lock).map_err(failed)? {
        return Ok(());
    }
    let noted = lock.write_all(TABLES).and_then(|()| lock.sync_all());
    noted.map_err(failed)
}

fn had_tables(lock: &mut File) -> std::io::Result<bool> {
    lock.rewind()?;
    let mut text = Vec::new();
    lock.take(64).read_to_end(&mut text)?;
    lock.rewind()?;
    Ok(text == TABLES)
}

fn length(path: &Path) -> std::io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What a write-ahead log has.
#[derive(Debug, Default)]
struct Log {
    length: u64,
    /// Of its header; `None` if that is damaged.
    salt: Option<[u8; 8]>,
    /// Whether anything but zeros is in it.
    is_written: bool,
    /// Frames up to the end of the last transaction before any damage.
    ended: u64,
    /// Where a frame is damaged behind which others are not.
    damaged: Option<u64>,
}

impl Log {
    fn read(path: &Path) -> std::io::Result<Log> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Log::default());
            }
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut log = Log {
            length,
            ..Log::default()
        };
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header = [0; HEADER as usize];
        if length < HEADER {
            return Ok(log);
        }
        file.read_exact(&mut header)?;
        log.is_written = header != [0; HEADER as usize];
        let size = be(&header, 8);
        let is_big = match be(&header, 0) {
            LITTLE => false,
            BIG => true,
            _ => return Ok(log),
        };
        let sum = Sum::default().with(&header[..24], is_big);
        if !sum.is(&header, 24) || !size.is_power_of_two() || !(512..=65536).contains(&size) {
            return Ok(log);
        }
        let mut salt = [0; 8];
        salt.copy_from_slice(&header[16..24]);
        log.salt = Some(salt);
        log.frames(&mut file, size as usize, sum, is_big)?;
        Ok(log)
    }

    /// Goes through all frames that are whole.
    fn frames(
        &mut self,
        file: &mut impl Read,
        size: usize,
        mut sum: Sum,
        is_big: bool,
    ) -> std::io::Result<()> {
        let mut frame = vec![0; 24 + size];
        let whole = (self.length - HEADER) / frame.len() as u64;
        // Of the run of good frames that goes on now: how many transactions end in it.
        let (mut first_bad, mut ends) = (None, 0);
        for number in 1..=whole {
            file.read_exact(&mut frame)?;
            let own = sum.with(&frame[..8], is_big).with(&frame[24..], is_big);
            let is_good =
                own.is(&frame, 16) && self.salt.as_ref().is_some_and(|salt| frame[8..16] == *salt);
            if !is_good {
                first_bad.get_or_insert(number);
                ends = 0;
            } else if be(&frame, 4) != 0 {
                ends += 1;
                if first_bad.is_none() {
                    self.ended = number;
                } else if ends == 2 {
                    self.damaged = first_bad;
                    return Ok(());
                }
            }
            // The next one goes on from what this one says, also if that is wrong.
            sum = Sum(be(&frame, 16), be(&frame, 20));
        }
        Ok(())
    }

    fn check(&self, counted: Option<&Counted>) -> Result<(), String> {
        if self.length > HEADER && self.salt.is_none() && self.is_written {
            return Err("the header of its log (`-wal`) is damaged".to_owned());
        }
        if let Some(number) = self.damaged {
            let message = format!("frame {number} of its log (`-wal`) is damaged");
            return Err(message);
        }
        // With another salt it counts another log: an older one.
        let counts_this = |counted: &&Counted| self.salt.is_none_or(|salt| salt == counted.salt);
        match counted.filter(counts_this) {
            Some(counted) if u64::from(counted.frames) > self.ended => Err(format!(
                "its log (`-wal`) has {} frames, and had {}",
                self.ended, counted.frames
            )),
            _ => Ok(()),
        }
    }
}

/// What the index beside a log says of it.
#[derive(Debug)]
struct Counted {
    frames: u32,
    salt: [u8; 8],
}

impl Counted {
    /// `None` if there is none, or it was being written.
    fn read(path: &Path) -> std::io::Result<Option<Counted>> {
        let mut both = [0; 96];
        match File::open(path).and_then(|mut file| file.read_exact(&mut both)) {
            Ok(()) => {}
            Err(error) => {
                use std::io::ErrorKind::{NotFound, UnexpectedEof};
                let is_none = matches!(error.kind(), NotFound | UnexpectedEof);
                return if is_none { Ok(None) } else { Err(error) };
            }
        }
        let (header, again) = both.split_at(48);
        // It is in the byte order of the machine, but for the salt.
        let native = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&header[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        let is_big = cfg!(target_endian = "big");
        let sum = Sum::default().with(&header[..40], is_big);
        if header != again || header[12] != 1 || (sum.0, sum.1) != (native(40), native(44)) {
            return Ok(None);
        }
        let mut salt = [0; 8];
        salt.copy_from_slice(&header[32..40]);
        let frames = native(16);
        Ok(Some(Counted { frames, salt }))
    }
}

/// The checksum of a log: <https://www.sqlite.org/fileformat2.html#checksum_algorithm>.
#[derive(Clone, Copy, Debug, Default)]
struct Sum(u32, u32);

impl Sum {
    /// Of bytes behind those it is of; their number can be divided by 8.
    fn with(self, bytes: &[u8], is_big: bool) -> Sum {
        let Sum(mut one, mut two) = self;
        for pair in bytes.chunks_exact(8) {
            let (first, second) = (be(pair, 0), be(pair, 4));
            let native = |word: u32| if is_big { word } else { word.swap_bytes() };
            one = one.wrapping_add(native(first)).wrapping_add(two);
            two = two.wrapping_add(native(second)).wrapping_add(one);
        }
        Sum(one, two)
    }

    /// Whether it stands there.
    fn is(self, bytes: &[u8], at: usize) -> bool {
        (self.0, self.1) == (be(bytes, at), be(bytes, at + 4))
    }
}

fn be(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

const SMALLEST_PAGE: u64 = 512;
/// Of a log, whose frames follow.
const HEADER: u64 = 32;
/// How a log begins whose checksums are of words in the one or the other byte order.
const LITTLE: u32 = 0x377f_0682;
const BIG: u32 = 0x377f_0683;
const TABLES: &[u8] = b"this file has tables\n";
