//! The demo keeps its promises, and the shop without Outlast does not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::{outlast, text, wait_until};

/// The demo, with a folder of its own for what it writes.
fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_outlast"));
    demo.arg("demo").args(arguments).env("TMPDIR", folder);
    demo
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// What was told and what is in the ledgers, one way or another: every order is counted once.
fn check_orders(orders: &Value) {
    let count = |place: &str| orders.pointer(place).and_then(Value::as_u64).unwrap();
    let sum = |places: &[&str]| places.iter().map(|place| count(place)).sum::<u64>();
    let told = sum(&["/completed", "/compensated", "/failed", "/waiting"]);
    assert_eq!(told, count("/placed"), "{orders}");
    let by_ledgers = sum(&["/ledgers/done", "/ledgers/undone", "/ledgers/half_done"]);
    assert_eq!(by_ledgers, count("/placed"), "{orders}");
    assert_eq!(count("/ledgers/told_otherwise"), 0, "{orders}");
}

/// A demo counts milliseconds: they come one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whatever else the machine does, the orders hold. How quick pages are is another matter: the other shop
/// tells whether the machine had the time, as nothing is wrong there either when the trouble is over.
#[test]
fn a_short_day_is_survived() {
    let _alone = alone();
    let mut broken = Vec::new();
    for seed in 7..10 {
        let day = a_short_day(seed);
        let served = |side| day["promises"][0][side]["success"].as_f64().unwrap();
        if day["kept"] == 10 {
            assert!(served("unprotected") < 0.95, "{day:#}");
            return;
        }
        let after = day["promises"][7]["unprotected"]["p95_ms"].as_f64();
        if after.unwrap() < 150.0 {
            assert!(served("unprotected") < served("protected"), "{day:#}");
            broken.push(day);
        }
    }
    assert!(broken.len() < 2, "{broken:#?}");
}

fn a_short_day(seed: u64) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let day = ["--for", "15s", "--json", "--seed", &seed.to_string()];
    let output = demo(folder.path(), &day).output().unwrap();
    assert!(is_empty(folder.path()), "it leaves no files");
    let told = text(&output.stdout) + &text(&output.stderr);
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"));
    let promises = report["promises"].as_array().unwrap();
    assert_eq!(promises.len(), 10);
    assert_eq!(report["seed"], seed);
    let is_kept = report["kept"] == promises.len();
    assert_eq!(output.status.code(), Some(i32::from(!is_kept)), "{told}");
    for order in &promises[8..] {
        assert_eq!(order["kept"], true, "{told}");
    }

    let orders = &report["orders"];
    assert!(
        (1..=3).contains(&orders["kills"].as_u64().unwrap()),
        "{orders}"
    );
    let [with, without] = ["protected", "unprotected"].map(|side| &orders[side]);
    check_orders(with);
    check_orders(without);
    // One in ten is a piano: whatever goes well, some orders are undone, or left behind.
    for side in [&with["compensated"], &without["ledgers"]["half_done"]] {
        assert!(side.as_u64().unwrap() > 0, "{orders}");
    }
    assert_eq!(with["completed"], with["ledgers"]["done"], "{orders}");
    assert_eq!(with["compensated"], with["ledgers"]["undone"], "{orders}");
    assert!(with["completed"].as_u64().unwrap() > 0, "{orders}");
    report
}

/// The numbers of a row of the table of orders.
fn row(page: &str, text: &str) -> [u64; 2] {
    let line = page.lines().find(|line| line.trim().starts_with(text));
    let line = line.unwrap_or_else(|| panic!("{text}: {page}"));
    let mut numbers = line
        .split_whitespace()
        .rev()
        .map(|word| word.parse().unwrap());
    let without = numbers.next().unwrap();
    [numbers.next().unwrap(), without]
}

#[test]
fn the_table_of_a_day_of_ten_seconds_adds_up() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let day = ["--for", "10s", "--seed", "3"];
    let output = demo(folder.path(), &day).output().unwrap();
    let page = text(&output.stdout);
    let row = |text: &str| row(&page, text);
    let sum = |rows: &[&str]| {
        let rows = rows.iter().map(|text| row(text));
        rows.fold([0, 0], |sum, row| [sum[0] + row[0], sum[1] + row[1]])
    };
    let placed = row("placed");
    assert!(placed.iter().all(|orders| *orders >= 10), "{page}");
    let told = [
        "told to be done",
        "told to be undone",
        "told to have failed",
        "still waiting",
    ];
    assert_eq!(sum(&told), placed, "{page}");
    assert_eq!(sum(&["done", "undone", "half done"]), placed, "{page}");
    assert_eq!(row("other than was told"), [0, 0], "{page}");
    // Nothing waits, so what was told is what is.
    assert_eq!(
        [row("still waiting")[0], row("half done")[0]],
        [0, 0],
        "{page}"
    );
    assert_eq!(row("done")[0], row("told to be done")[0], "{page}");
    assert_eq!(row("charged twice")[0], 0, "{page}");
    assert!(row("half done")[1] > 0, "{page}");
    assert!(!page.contains(" 0 times"), "{page}");
    assert!(is_empty(folder.path()), "it leaves no files");
}

/// A demo whose process for orders runs.
fn running(folder: &Path) -> (Child, u32) {
    let mut demo = demo(folder, &["--for", "60s", "--plain"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("all is well"));
    let own = demo.id();
    let is_child = |id: &u32| parent(*id) == Some(own);
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let mut numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runner = numbers.find(is_child).unwrap();
    // Whoever reads its lines is gone; that stops nothing.
    (demo, runner)
}

fn parent(id: u32) -> Option<u32> {
    let line = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    // A dead one that nobody has asked after is gone, too.
    (fields.next()? != "Z").then_some(())?;
    fields.next()?.parse().ok()
}

#[test]
fn nothing_is_left_of_a_day_that_is_broken_off() {
    let _alone = alone();
    for signal in ["-INT", "-TERM", "-KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut demo, runner) = running(folder.path());
        let sent = Command::new("kill")
            .args([signal, &demo.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let ended = demo.wait().unwrap();
        wait_until("the process that runs the orders ends", || {
            parent(runner).is_none()
        });
        if signal != "-KILL" {
            assert_eq!(ended.code(), Some(0), "{signal}");
            assert!(is_empty(folder.path()), "{signal}");
        }
    }
}

#[test]
fn a_day_has_a_sensible_length() {
    let folder = tempfile::tempdir().unwrap();
    for length in ["5s", "20m", "30"] {
        assert_eq!(
            outlast(folder.path(), &["demo", "--for", length])
                .status
                .code(),
            Some(2),
            "{length}"
        );
    }
}
