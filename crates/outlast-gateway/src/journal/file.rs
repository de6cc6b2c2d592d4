//! The file of a journal, and the thread that writes it.
//!
//! An attempt waits until the line of its beginning is on the disk (`fdatasync`), and an answer until
//! the line is that says it was served. In the system's memory alone it would survive a gateway that
//! is killed, but not a machine that loses its power. The thread takes all lines that have come while
//! it wrote, writes them at once, and syncs once, so that the cost is one sync per batch and not per
//! line.
//!
//! The file is written anew, with the keys that are still known, when it is opened and whenever it
//! has grown to twice of what it was then, and to a megabyte at least. A line that was cut off by a
//! crash is left out with a warning. Only one process has the file open at a time.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::line::{Happening, Line, Read};
use super::writer::Writer;
use super::{Entry, Keys, Verdict};

/// An open journal.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What attempts and the thread share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// A whole new file, written before `lines`.
    snapshot: Option<Vec<u8>>,
    waiting: Vec<oneshot::Sender<bool>>,
    /// How long the file is, with what waits, and when that is too long.
    length: usize,
    limit: usize,
    closing: bool,
}

impl File {
    /// Opens a journal and reads what was written since `oldest`.
    pub(super) fn open(path: &Path, oldest: u64) -> io::Result<(File, Keys)> {
        let file = lock(path)?;
        let keys = read(path, &file, oldest)?;
        let snapshot = snapshot(&keys);
        let mut next = File::idle(path, snapshot.len());
        let writer = Writer::open(path, &snapshot)?;
        // Until here, the former file has kept others away.
        drop(file);
        next.start(writer)?;
        Ok((next, keys))
    }

    /// A journal of this length that nobody writes yet.
    fn idle(path: &Path, length: usize) -> File {
        let mut queue = Queue::default();
        queue.starts_with(length);
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
        });
        File {
            path: path.to_owned(),
            shared,
            thread: None,
        }
    }

    fn start(&mut self, writer: Writer) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("outlast-journal".to_owned())
            .spawn(move || shared.write_all(writer))?;
        self.thread = Some(thread);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, and tells when it is written, if that is asked.
    pub(super) fn append(
        &self,
        line: &Line<'_>,
        tell: bool,
    ) -> Result<Option<oneshot::Receiver<bool>>, Behind> {
        let mut queue = self.shared.lock();
        if queue.lines.len() > MOST_WAITING {
            return Err(Behind);
        }
        let before = queue.lines.len();
        line.write(&mut queue.lines);
        queue.length += queue.lines.len() - before;
        let told = tell.then(|| {
            let (tell, told) = oneshot::channel();
            queue.waiting.push(tell);
            told
        });
        self.shared.wake.notify_one();
        Ok(told)
    }

    /// Begins a new file with what is known, if this one is too long. `keys` are locked, so that
    /// no line comes between them and the lines that follow.
    pub(super) fn compact(&self, keys: &Keys) {
        let mut queue = self.shared.lock();
        if queue.length <= queue.limit {
            return;
        }
        let snapshot = snapshot(keys);
        queue.starts_with(snapshot.len());
        // What waited is in the snapshot.
        queue.lines.clear();
        queue.snapshot = Some(snapshot);
        self.shared.wake.notify_one();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The disk is slower than the attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind;

impl Queue {
    fn starts_with(&mut self, length: usize) {
        self.length = length;
        self.limit = (2 * length).max(LEAST_LIMIT);
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.snapshot.is_none()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until the journal is closed.
    fn write_all(&self, mut writer: Writer) {
        let mut lines = Vec::new();
        loop {
            let mut queue = self.lock();
            while queue.is_empty() && !queue.closing {
                queue = self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if queue.is_empty() {
                return;
            }
            lines.clear();
            std::mem::swap(&mut lines, &mut queue.lines);
            let (snapshot, waiting) = (queue.snapshot.take(), std::mem::take(&mut queue.waiting));
            drop(queue);
            let is_written = writer.write(snapshot.as_deref(), &lines);
            for waiting in waiting {
                // Whoever does not wait any more has ended its attempt.
                let _ = waiting.send(is_written);
            }
        }
    }
}

/// Opens the journal for this process alone. One that ends just now gets a moment for it.
#[expect(
    clippy::disallowed_methods,
    reason = "a plan is being taken over: no request waits on this thread"
)]
fn lock(path: &Path) -> io::Result<std::fs::File> {
    for wait in 0..=LOCK_TRIES {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Its process may have put a new one in its place meanwhile, and go on with that.
            Ok(()) if is_at(path, &file)? => return Ok(file),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if wait < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another process writes it"))
}

/// Whether this is the file that has the name, and not one that had it.
fn is_at(path: &Path, file: &std::fs::File) -> io::Result<bool> {
    let named = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        named => named?,
    };
    let held = file.metadata()?;
    Ok((named.dev(), named.ino()) == (held.dev(), held.ino()))
}

/// What a journal knows.
fn read(path: &Path, file: &std::fs::File, oldest: u64) -> io::Result<Keys> {
    let mut keys = Keys::default();
    let mut damaged = 0_usize;
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).ok();
        match text.and_then(|text| text.strip_suffix('\n')) {
            // What comes after a line that could not be written begins with an empty one.
            Some("") => {}
            Some(text) => match Read::parse(text) {
                Some(read) => keys.replay(read),
                None => damaged += 1,
            },
            None => damaged += 1,
        }
    }
    keys.known.retain(|_, entry| entry.at >= oldest);
    if damaged > 0 {
        let path = path.display();
        tracing::warn!(%path, lines = damaged, "damaged lines of the journal were left out");
    }
    let mut order: Vec<_> = keys
        .known
        .iter()
        .map(|(key, entry)| (entry.at, Arc::clone(key)))
        .collect();
    order.sort_unstable_by_key(|(at, _)| *at);
    keys.order = order.into();
    Ok(keys)
}

impl Keys {
    /// Learns from a line of an earlier process. An attempt that did not end then is in doubt; an
    /// end that is missing is safe, so a later beginning counts.
    fn replay(&mut self, read: Read) {
        let held = self.known.get(read.key.as_str());
        let is_holders = held.is_some_and(|entry| *entry.provider == *read.provider);
        let served = is_holders && held.is_some_and(|entry| entry.served);
        if read.begins() {
            let mut entry = Entry::of(Arc::from(read.provider));
            entry.at = read.at;
            entry.in_doubt = Some(0);
            entry.served = served;
            self.known.insert(Arc::from(read.key), entry);
        } else if is_holders && read.free {
            self.known.remove(read.key.as_str());
        } else if is_holders && let Some(entry) = self.known.get_mut(read.key.as_str()) {
            entry.at = entry.at.max(read.at);
            entry.served |= read.served();
        }
    }
}

/// What is known, as lines.
fn snapshot(keys: &Keys) -> Vec<u8> {
    let mut lines = Vec::new();
    for (key, entry) in &keys.known {
        let mut line = Line {
            at: entry.at,
            key,
            provider: &entry.provider,
            happening: Happening::Begins,
        };
        line.write(&mut lines);
        if entry.served {
            line.happening = Happening::Ends {
                verdict: Verdict::Served,
                free: false,
            };
            line.write(&mut lines);
        }
    }
    lines
}

/// A second in all.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Below this, a file is not worth writing anew.
const LEAST_LIMIT: usize = 1 << 20;
/// Bytes that wait for the disk. Behind so much, attempts are refused.
const MOST_WAITING: usize = 8 << 20;

#[cfg(test)]
mod tests;
