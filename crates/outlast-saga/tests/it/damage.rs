//! Damaged files: told at the start and left as they are, or whole after all. Never is a saga missing of
//! which somebody was told that it is on the disk, without a word.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Begun, State, Store, StoreError};

use crate::conformance::{new, record};

const SAGAS: u64 = 200;
const ENDS: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// A file and what lies beside it.
type Files = BTreeMap<&'static str, Vec<u8>>;

/// A frame of a log: its head and a page.
const FRAME: usize = 24 + 4096;

fn damaged(whole: &Files, end: &'static str, damage: &dyn Fn(&mut Vec<u8>)) -> Files {
    let mut files = whole.clone();
    damage(files.get_mut(end).unwrap());
    files
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn read(path: &Path) -> Files {
    let file = |end: &&'static str| Some((*end, std::fs::read(beside(path, end)).ok()?));
    ENDS.iter().filter_map(file).collect()
}

fn write(path: &Path, files: &Files) {
    for end in ENDS {
        let _ = std::fs::remove_file(beside(path, end));
    }
    for (end, bytes) in files {
        std::fs::write(beside(path, end), bytes).unwrap();
    }
}

/// What a process leaves that is killed: all of it in the log, or, if it was there before, in the file.
async fn left(is_in_log: bool) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let fill = async |store: &Sqlite| {
        for number in 0..SAGAS {
            let id = format!("s{number}");
            assert_eq!(store.begin(new(&id, "1")).await, Ok(Begun::New));
            store.append(&id, record(1), State::Open).await.unwrap();
        }
    };
    let store = Sqlite::open(&path).unwrap();
    fill(&store).await;
    if is_in_log {
        return read(&path);
    }
    drop(store);
    read(&path)
}

/// Whether all sagas are there with their logs; an error is one that says so.
async fn is_whole(store: &Sqlite, what: &str) -> Result<(), StoreError> {
    let listed = store.list(Some(State::Open), 0, 1000).await?;
    assert_eq!(
        listed.len() as u64,
        SAGAS,
        "{what}: sagas are missing without a word"
    );
    for listed in listed {
        let log = store.log(&listed.id).await?;
        assert_eq!(log, [record(0), record(1)], "{}", listed.id);
    }
    Ok(())
}

/// What becomes of damaged files.
#[derive(Debug, PartialEq)]
enum Came {
    /// They are refused as damaged, and left as they are.
    Refused,
    /// Everything is there.
    Whole,
    /// They are opened, and reading what is damaged is an error.
    Told,
}

async fn came(path: &Path, files: &Files, what: &str) -> Came {
    write(path, files);
    match Sqlite::open(path) {
        Ok(store) => match is_whole(&store, what).await {
            Ok(()) => Came::Whole,
            Err(StoreError::Corrupt(_)) => Came::Told,
            Err(error) => panic!("{what}: {error}"),
        },
        Err(error) => {
            let text = error.to_string();
            // A number of the tables' version may be damaged, too.
            let is_told = matches!(error, StoreError::Corrupt(_)) || text.contains("version");
            assert!(is_told, "{what}: {text}");
            let mut after = read(path);
            // The index beside the log is SQLite's to make anew.
            for files in [&mut after, &mut files.clone()] {
                files.remove("-shm");
            }
            for (end, bytes) in files {
                let is_same = *end == "-shm" || after.get(end) == Some(bytes);
                assert!(is_same, "{what}: sagas.db{end} was changed");
            }
            Came::Refused
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_short_is_refused() {
    let whole = left(false).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    assert_eq!(came(&path, &whole, "nothing").await, Came::Whole);
    let length = whole[""].len();
    for kept in [
        0,
        1,
        15,
        16,
        20,
        50,
        99,
        100,
        511,
        512,
        1024,
        4095,
        4096,
        4097,
        8192,
        length / 2,
        length - 4096,
        length - 1,
    ] {
        let files = damaged(&whole, "", &|bytes| bytes.truncate(kept));
        let what = format!("{kept} bytes of {length}");
        assert_eq!(came(&path, &files, &what).await, Came::Refused, "{what}");
    }
    let mut files = whole.clone();
    files.insert(
        "",
        b"this is no database, but long enough to be one".repeat(99),
    );
    assert_eq!(came(&path, &files, "a text").await, Came::Refused);
    // An empty file that never had tables is a new one.
    write(&path, &Files::from([("", Vec::new())]));
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.list(None, 0, 10).await, Ok(Vec::new()));
    drop(store);
    // And whoever moves a file away begins anew.
    std::fs::remove_file(&path).unwrap();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.begin(new("a", "1")).await, Ok(Begun::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_told() {
    let whole = left(false).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let with = |damage: &dyn Fn(&mut Vec<u8>)| damaged(&whole, "", damage);
    let mut refused = 0;
    for at in 0..100 {
        for bits in [0x01, 0xff] {
            let what = format!("byte {at} of the header with {bits:#x}");
            let came = came(&path, &with(&|bytes| bytes[at] ^= bits), &what).await;
            refused += u32::from(came == Came::Refused);
        }
    }
    assert!(refused > 60, "{refused} of 200");
    for page in 0..whole[""].len() / 4096 {
        let start = page * 4096;
        let header = start + if page == 0 { 100 } else { 0 };
        let files = with(&|bytes| bytes[start..start + 4096].fill(0));
        let what = format!("page {page} is nothing");
        assert_eq!(came(&path, &files, &what).await, Came::Refused, "{what}");
        let files = with(&|bytes| bytes[header..header + 8].fill(0xff));
        let what = format!("the head of page {page}");
        assert_eq!(came(&path, &files, &what).await, Came::Refused, "{what}");
        // Texts have no checksum: what is no record any more is told when it is read.
        for at in [512, 2048, 3500, 4000] {
            let what = format!("64 bytes at {at} of page {page}");
            let files = with(&|bytes| bytes[start + at..start + at + 64].fill(0xff));
            came(&path, &files, &what).await;
        }
    }
}

/// SQLite would take what comes before the damage, and forget the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_beside_a_file_is_told() {
    let whole = left(true).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    assert_eq!(came(&path, &whole, "nothing").await, Came::Whole);
    let length = whole["-wal"].len();
    let frames = (length - 32) / FRAME;
    let last = 32 + (frames - 1) * FRAME;
    let check = async |what: &str, expected: Came, damage: &dyn Fn(&mut Vec<u8>)| {
        let files = damaged(&whole, "-wal", damage);
        assert_eq!(came(&path, &files, what).await, expected, "{what}");
    };
    let flips: [(&str, usize); 10] = [
        ("the magic number", 0),
        ("the size of pages", 9),
        ("the salt", 17),
        ("the checksum of the header", 25),
        ("the first frame's head", 33),
        ("the first frame's salt", 40),
        ("the first frame's checksum", 50),
        ("the first frame", 32 + 1000),
        ("one in the middle", 32 + frames / 2 * FRAME + 1000),
        ("the last one", last + 1000),
    ];
    for (what, at) in flips {
        check(what, Came::Refused, &|log| log[at] ^= 0x10).await;
    }
    for kept in [0, 1, 31, 32, 33, 32 + FRAME, last, last + 1, length - 1] {
        let what = format!("{kept} bytes of {length}");
        check(&what, Came::Refused, &|log| log.truncate(kept)).await;
    }
    let some = 32 + 3 * FRAME..32 + 40 * FRAME;
    let zeros = &|log: &mut Vec<u8>| log[some.clone()].fill(0);
    check("many frames", Came::Refused, zeros).await;
    // A transaction that was cut off has not ended: nobody was told of it.
    let more = &|log: &mut Vec<u8>| log.extend_from_within(last..last + 3000);
    check("a torn end", Came::Whole, more).await;
    // What belongs together is there, or all of it is refused.
    for end in ["", "-wal"] {
        let mut files = whole.clone();
        files.remove(end);
        assert_eq!(came(&path, &files, "gone").await, Came::Refused, "{end}");
    }
    let files = damaged(&whole, "", &|bytes| bytes.clear());
    assert_eq!(came(&path, &files, "empty").await, Came::Refused);
    // A page that the log has anew is not needed.
    let files = damaged(&whole, "", &|bytes| bytes[100..].fill(0));
    assert_eq!(came(&path, &files, "an old page").await, Came::Whole);
}

/// When the machine has died there may be no index, and the last transaction may be cut off. Others are
/// not.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_told_without_its_index_too() {
    let mut whole = left(true).await;
    whole.remove("-shm");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    assert_eq!(came(&path, &whole, "nothing").await, Came::Whole);
    let frames = (whole["-wal"].len() - 32) / FRAME;
    for number in [0, 1, frames / 2, frames - 20] {
        for at in [3, 12, 18, 500] {
            let files = damaged(&whole, "-wal", &|log| log[32 + number * FRAME + at] ^= 0x10);
            let what = format!("byte {at} of frame {number} of {frames}");
            assert_eq!(came(&path, &files, &what).await, Came::Refused, "{what}");
        }
    }
    let files = damaged(&whole, "-wal", &|log| log.truncate(log.len() - 1));
    write(&path, &files);
    let store = Sqlite::open(&path).unwrap();
    let last = store.log(&format!("s{}", SAGAS - 1)).await.unwrap();
    assert_eq!(last, [record(0)], "the last transaction was cut off");
    assert_eq!(store.list(None, 0, 1000).await.unwrap().len() as u64, SAGAS);
}

/// The child: writes until it is killed.
#[test]
fn child() {
    let Some(file) = std::env::var_os("OUTLAST_DAMAGE_FILE") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(file).unwrap();
        println!("\nopened");
        let own = std::process::id();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..64 {
            let store = store.clone();
            writers.spawn(async move {
                for number in 0.. {
                    let mut saga = new(&format!("{own}-{writer}-{number}"), "1");
                    let text = outlast_saga::Event::Succeeded {
                        step: 0,
                        output: "x".repeat(8000).into(),
                    };
                    saga.record.events.push(text);
                    assert_eq!(store.begin(saga).await, Ok(Begun::New));
                }
            });
        }
        writers.join_all().await;
    });
}

/// A log is written from its beginning again when all of it is in the file. Whenever a process is killed
/// about that time, what it leaves is whole.
#[test]
fn a_log_that_begins_anew_is_never_taken_for_a_damaged_one() {
    if std::env::var_os("OUTLAST_DAMAGE_FILE").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let salt = || {
        let mut header = [0; 32];
        let mut log = std::fs::File::open(beside(&path, "-wal")).ok()?;
        std::io::Read::read_exact(&mut log, &mut header).ok()?;
        Some(header[16..24].to_vec())
    };
    let mut rng = outlast_core::rng::Rng::new(11);
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["damage::child", "--exact", "--nocapture"])
            .env("OUTLAST_DAMAGE_FILE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let opened = said.any(|line| line.unwrap() == "opened");
        let (first, end) = (salt(), Instant::now() + Duration::from_secs(30));
        while opened && (salt().is_none() || salt() == first) && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
        // At any of the first writes, or a little later.
        let life = Duration::from_micros((rng.unit() * 3000.0) as u64);
        std::thread::sleep(life);
        let was = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(opened && was.is_none(), "round {round}: {was:?}");
        assert!(salt() != first, "round {round}: it never begins anew");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let store = Sqlite::open(&path).unwrap();
        assert!(!store.list(None, 0, 10).await.unwrap().is_empty());
    });
}
