use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::journal::{Bounds, Journal};

const BOUNDS: Bounds = Bounds {
    keep: Duration::from_secs(3600),
    keys: 8,
};

/// What the journal of a killed process says about a key, as the next one reads it.
fn killed(path: &Path, key: &str) -> Option<Entry> {
    let file = std::fs::File::open(path).unwrap();
    let keys = read(path, &file, 0).unwrap();
    keys.known.get(key).cloned()
}

#[test]
fn that_it_was_served_is_told_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let mut writer = Writer::open(&path, b"").unwrap();
    let journal = Arc::new(Journal {
        keys: Mutex::default(),
        file: Some(File::idle(&path, 0)),
    });
    let shared = Arc::clone(&journal.file.as_ref().unwrap().shared);
    let (claim, _) = journal
        .claim(&Arc::from("k"), &Arc::from("a"), BOUNDS)
        .unwrap();
    // As far as the thread has come when the provider answers.
    assert!(writer.write(None, &std::mem::take(&mut shared.lock().lines)));
    let mut end = pin!(claim.end(Verdict::Served));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(end.as_mut().poll(&mut context), Poll::Pending);
    assert!(!killed(&path, "k").unwrap().served, "nobody has written it");
    shared.lock().closing = true;
    shared.write_all(writer);
    assert_eq!(end.as_mut().poll(&mut context), Poll::Ready(false));
    assert!(killed(&path, "k").unwrap().served);
}

#[test]
fn a_file_that_has_lost_its_name_is_not_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let opened = |path| std::fs::File::open(path).unwrap();
    let mut writer = Writer::open(&path, b"").unwrap();
    let former = opened(&path);
    assert!(is_at(&path, &former).unwrap());
    assert!(writer.write(Some(b""), b""));
    assert!(!is_at(&path, &former).unwrap());
    assert!(is_at(&path, &opened(&path)).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(!is_at(&path, &former).unwrap());
}
