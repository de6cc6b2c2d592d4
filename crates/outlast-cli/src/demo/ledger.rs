//! The ledger of a service: what it did for which order, once for one idempotency key.
//!
//! `POST /charges/order-1` does the work, `DELETE /charges/order-1` undoes it with the same key and
//! `/undo` behind it, and `GET /ledger` tells all of it. The law of a ledger:
//!
//! - the work of a key is done once, and undone once, however often it is asked for;
//! - what was to be undone before it was done is never done: that request may still be on its way.
//!
//! With a file, a line is on the disk before anybody is told of it, and the next process goes on with
//! it. A ledger that is full refuses: it forgets no key.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::role::{Effect, Role};
use super::service::{Answer, lock};

/// A service's ledger.
pub(crate) struct Ledger {
    role: Role,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    entries: Vec<Entry>,
    /// What became of a key: the place of its entry, and whether it is undone.
    keys: HashMap<String, (usize, bool)>,
    file: Option<File>,
}

/// A line of the ledger.
struct Entry {
    effect: Effect,
    order: String,
    /// Of the work, also where it is undone.
    key: String,
    /// What came with the request.
    got: Value,
}

impl Ledger {
    /// One that ends with the process.
    pub(crate) fn new(role: Role) -> Ledger {
        Ledger {
            role,
            books: Mutex::default(),
        }
    }

    /// One that is kept in a file.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is no ledger of this role.
    pub(crate) fn open(role: Role, path: &Path) -> io::Result<Ledger> {
        let wrong = |why: String| io::Error::other(format!("{}: {why}", path.display()));
        let mut options = File::options();
        options.read(true).append(true).create(true);
        let mut file = options
            .open(path)
            .map_err(|error| wrong(error.to_string()))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A process that was killed may have left half a line, of which it has told nobody.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let mut books = Books::default();
        for (number, line) in text[..whole].lines().enumerate() {
            let entry = Entry::read(role, line);
            let entry =
                entry.ok_or_else(|| wrong(format!("line {} is not its own", number + 1)))?;
            books.take(entry);
        }
        books.file = Some(file);
        Ok(Ledger {
            role,
            books: Mutex::new(books),
        })
    }

    /// What it does with a request; nothing, if that is not about ledgers.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Option<Answer> {
        let (parts, body) = request.into_parts();
        let mut path = parts.uri.path().split('/').skip(1);
        let (things, order, rest) = (path.next()?, path.next(), path.next());
        if (things, order) == ("ledger", None) && parts.method == Method::GET {
            let only = parts.uri.query().and_then(|it| it.strip_prefix("order="));
            return Some((StatusCode::OK, self.told(only)));
        }
        let order = order.filter(|order| things == self.role.things() && !order.is_empty())?;
        if rest.is_some() {
            return None;
        }
        let key = parts.headers.get("idempotency-key");
        let Some(key) = key.and_then(|key| key.to_str().ok()) else {
            return Some(refusal(
                StatusCode::BAD_REQUEST,
                "send an Idempotency-Key: the work of a key is done once",
            ));
        };
        if parts.method == Method::DELETE {
            return Some(self.undo(order, key.strip_suffix("/undo").unwrap_or(key)));
        }
        if parts.method != Method::POST {
            let no = "POST does it, DELETE undoes it";
            return Some(refusal(StatusCode::METHOD_NOT_ALLOWED, no));
        }
        let Ok(body) = Limited::new(body, LARGEST).collect().await else {
            let no = "the body did not arrive, or is larger than 64 KiB";
            return Some(refusal(StatusCode::PAYLOAD_TOO_LARGE, no));
        };
        let body = body.to_bytes();
        let got = match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body),
        };
        Some(match got {
            Ok(got) => self.act(order, key, got),
            Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("no JSON: {error}")),
        })
    }

    /// Does the work of a key.
    fn act(&self, order: &str, key: &str, got: Value) -> Answer {
        let mut books = lock(&self.books);
        let is_heavy = self.role == Role::Shipping && got["item"] == HEAVY;
        let at = match books.keys.get(key) {
            Some((_, true)) => return refusal(StatusCode::GONE, "it was undone before"),
            Some((at, false)) => *at,
            None if is_heavy => return refusal(StatusCode::UNPROCESSABLE_ENTITY, "too heavy"),
            None => match books.write(self.role, Entry::new(Effect::Done, order, key, got)) {
                Ok(at) => at,
                Err(no) => return no,
            },
        };
        let entry = &books.entries[at];
        let id = format!("{}/{}", self.role.things(), entry.order);
        let done = json!({ "id": id, "got": entry.got });
        (StatusCode::OK, done.to_string())
    }

    /// Undoes the work of a key, or sees to it that it is never done.
    fn undo(&self, order: &str, key: &str) -> Answer {
        let mut books = lock(&self.books);
        let effect = match books.keys.get(key) {
            Some((_, true)) => None,
            Some((_, false)) => Some(Effect::Undone),
            None => Some(Effect::Void),
        };
        if let Some(effect) = effect {
            let entry = Entry::new(effect, order, key, Value::Null);
            if let Err(no) = books.write(self.role, entry) {
                return no;
            }
        }
        (StatusCode::OK, "{}".to_owned())
    }

    /// All of it, or what is about one order.
    fn told(&self, only: Option<&str>) -> String {
        let books = lock(&self.books);
        let meant = books
            .entries
            .iter()
            .filter(|entry| only.is_none_or(|order| order == entry.order));
        let entries: Vec<_> = meant.map(|entry| entry.as_json(self.role)).collect();
        format!("{}\n", json!({ "entries": entries }))
    }
}

impl Books {
    /// Writes an entry, and tells its place.
    fn write(&mut self, role: Role, entry: Entry) -> Result<usize, Answer> {
        if self.entries.len() >= MOST {
            let no = "the ledger is full: begin a new one";
            return Err(refusal(StatusCode::INSUFFICIENT_STORAGE, no));
        }
        if let Some(file) = &mut self.file {
            let line = format!("{}\n", entry.as_json(role));
            append(file, line.as_bytes()).map_err(|error| {
                let no = format!("the ledger cannot be written: {error}");
                refusal(StatusCode::SERVICE_UNAVAILABLE, &no)
            })?;
        }
        Ok(self.take(entry))
    }

    fn take(&mut self, entry: Entry) -> usize {
        let (at, undone) = (self.entries.len(), entry.effect != Effect::Done);
        self.keys.insert(entry.key.clone(), (at, undone));
        self.entries.push(entry);
        at
    }
}

impl Entry {
    fn new(effect: Effect, order: &str, key: &str, got: Value) -> Entry {
        Entry {
            effect,
            order: order.to_owned(),
            key: key.to_owned(),
            got,
        }
    }

    fn as_json(&self, role: Role) -> Value {
        let mut told = json!({
            "order": self.order,
            "effect": role.word(self.effect),
            "key": self.key,
        });
        if !self.got.is_null() {
            told["got"] = self.got.clone();
        }
        told
    }

    fn read(role: Role, line: &str) -> Option<Entry> {
        let told: Value = serde_json::from_str(line).ok()?;
        let effect = role.effect(told["effect"].as_str()?)?;
        let (order, key) = (told["order"].as_str()?, told["key"].as_str()?);
        Some(Entry::new(effect, order, key, told["got"].clone()))
    }
}

/// Has a line on the disk, or leaves the file as it was.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}

fn refusal(status: StatusCode, why: &str) -> Answer {
    (status, json!({ "error": why }).to_string())
}

/// What shipping never takes.
pub(crate) const HEAVY: &str = "a piano";
/// Enough for days of a shop, and some 50 MB.
const MOST: usize = 200_000;
const LARGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ledger: &Ledger) -> Vec<String> {
        let told: Value = serde_json::from_str(&ledger.told(None)).unwrap();
        let entries = told["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["effect"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_key_is_done_once_and_undone_once() {
        let ledger = Ledger::new(Role::Payment);
        let euros = json!({ "euros": 20 });
        let first = ledger.act("order-1", "order-1/charge", euros);
        assert_eq!(first.0, StatusCode::OK);
        // The answer is that of the first time, whatever comes with the second.
        assert_eq!(ledger.act("order-1", "order-1/charge", json!(0)), first);
        for _ in 0..2 {
            assert_eq!(ledger.undo("order-1", "order-1/charge").0, StatusCode::OK);
        }
        let late = ledger.act("order-1", "order-1/charge", Value::Null);
        assert_eq!(late.0, StatusCode::GONE);
        assert_eq!(words(&ledger), ["charged", "refunded"]);
    }

    #[test]
    fn what_was_undone_before_is_never_done() {
        let ledger = Ledger::new(Role::Inventory);
        assert_eq!(ledger.undo("order-1", "k").0, StatusCode::OK);
        assert_eq!(
            ledger.act("order-1", "k", Value::Null).0,
            StatusCode::GONE,
            "it was on its way when it was undone"
        );
        assert_eq!(words(&ledger), ["nothing to release"]);
    }

    #[test]
    fn a_piano_is_too_heavy_for_shipping_alone() {
        let status = |role| {
            Ledger::new(role)
                .act("order-1", "k", json!({ "item": HEAVY }))
                .0
        };
        assert_eq!(status(Role::Shipping), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(status(Role::Inventory), StatusCode::OK);
    }

    #[test]
    fn a_file_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payment.jsonl");
        let ledger = Ledger::open(Role::Payment, &path).unwrap();
        ledger.act("order-1", "one", json!({ "euros": 20 }));
        ledger.act("order-2", "two", Value::Null);
        ledger.undo("order-2", "two");
        ledger.undo("order-3", "three");
        drop(ledger);
        let before = std::fs::read_to_string(&path).unwrap();
        let half = format!("{before}{{\"order\":\"ord");
        std::fs::write(&path, half).unwrap();
        let ledger = Ledger::open(Role::Payment, &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        let again = ledger.act("order-1", "one", Value::Null);
        assert!(again.1.contains("20"), "{}", again.1);
        for key in ["two", "three"] {
            assert_eq!(ledger.act("o", key, Value::Null).0, StatusCode::GONE);
        }
        assert_eq!(words(&ledger).len(), 4);
        let other = Ledger::open(Role::Order, &path).err().unwrap().to_string();
        assert!(other.contains("line 1 is not its own"), "{other}");
    }
}
