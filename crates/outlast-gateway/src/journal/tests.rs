use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    keep: Duration::from_secs(3600),
    keys: 8,
};

fn plan(journal: Option<PathBuf>) -> Exclusive {
    Exclusive {
        journal,
        keep: BOUNDS.keep,
        keys: BOUNDS.keys,
    }
}

fn open(path: &Path) -> Arc<Journal> {
    Arc::new(Journal::open(&plan(Some(path.to_owned()))).unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn begin(journal: &Arc<Journal>, key: &str, provider: &str) -> Result<Claim, Refused> {
    wait(journal.begin(&Arc::from(key), &Arc::from(provider), BOUNDS))
}

/// One attempt from its beginning to its end; whether the key is free then.
fn attempt(journal: &Arc<Journal>, key: &str, provider: &str, verdict: Verdict) -> bool {
    wait(begin(journal, key, provider).unwrap().end(verdict))
}

fn held(journal: &Journal, key: &str) -> Option<String> {
    let holder = journal.holder(key, BOUNDS);
    holder.map(|holder| holder.to_string())
}

#[test]
fn a_key_is_free_after_a_definite_no_only() {
    for (ends, is_free) in [
        (&[Verdict::Untried][..], true),
        (&[Verdict::Refused], true),
        (&[Verdict::Served], false),
        (&[Verdict::Unknown], false),
        (&[Verdict::Unknown, Verdict::Untried], false),
        (&[Verdict::Unknown, Verdict::Refused], true),
        (&[Verdict::Served, Verdict::Refused], false),
    ] {
        let journal = Arc::new(Journal::of_one_call());
        for &verdict in ends {
            let free = attempt(&journal, "k", "a", verdict);
            assert_eq!(free, held(&journal, "k").is_none(), "{ends:?}");
        }
        let expected = if is_free { None } else { Some(Refused::Held) };
        assert_eq!(begin(&journal, "k", "b").err(), expected, "{ends:?}");
    }
}

#[test]
fn a_no_frees_nothing_while_another_attempt_is_under_way() {
    let journal = Arc::new(Journal::of_one_call());
    let first = begin(&journal, "k", "a").unwrap();
    let second = begin(&journal, "k", "a").unwrap();
    assert!(!wait(second.end(Verdict::Refused)));
    assert_eq!(begin(&journal, "k", "b").err(), Some(Refused::Held));
    assert!(wait(first.end(Verdict::Refused)));
    assert!(begin(&journal, "k", "b").is_ok());
}

#[test]
fn a_no_speaks_for_the_attempts_before_it_only() {
    for (doubtful, is_free) in [(0, true), (1, false)] {
        let journal = Arc::new(Journal::of_one_call());
        let mut claims = vec![
            begin(&journal, "k", "a").unwrap(),
            begin(&journal, "k", "a").unwrap(),
        ];
        // Its client leaves, and nobody knows when it reaches the provider.
        drop(claims.remove(doubtful));
        let free = wait(claims.remove(0).end(Verdict::Refused));
        assert_eq!(free, is_free, "{doubtful}");
        let expected = if is_free { None } else { Some(Refused::Held) };
        assert_eq!(begin(&journal, "k", "b").err(), expected, "{doubtful}");
        // One that began after both speaks for both.
        let holder = if is_free { "b" } else { "a" };
        assert!(attempt(&journal, "k", holder, Verdict::Refused));
    }
}

#[test]
fn an_attempt_that_is_given_up_is_in_doubt() {
    let journal = Arc::new(Journal::of_one_call());
    drop(begin(&journal, "k", "a").unwrap());
    assert_eq!(held(&journal, "k").as_deref(), Some("a"));
}

#[test]
fn nothing_is_forgotten_to_make_room() {
    let journal = Arc::new(Journal::of_one_call());
    for number in 0..BOUNDS.keys {
        attempt(&journal, &format!("{number}"), "a", Verdict::Served);
    }
    assert_eq!(begin(&journal, "new", "a").err(), Some(Refused::Full));
    assert!(
        begin(&journal, "0", "a").is_ok(),
        "a known key has its place"
    );
    let later = millis(wall()) + 1;
    let mut keys = journal.lock();
    keys.known.get_mut("0").unwrap().under_way = 0;
    keys.forget(later);
    assert!(keys.known.is_empty() && keys.order.is_empty());
}

#[test]
fn a_journal_is_known_after_the_process_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let journal = open(&path);
    attempt(&journal, "served", "a", Verdict::Served);
    attempt(&journal, "refused", "a", Verdict::Refused);
    attempt(&journal, "elsewhere", "a", Verdict::Refused);
    attempt(&journal, "elsewhere", "b", Verdict::Served);
    // As if the process ended here: what was begun is written, its end is not.
    let cut = begin(&journal, "cut", "b").unwrap();
    let text = std::fs::read(&path).unwrap();
    wait(cut.end(Verdict::Untried));
    drop(journal);
    std::fs::write(&path, text).unwrap();
    let journal = open(&path);
    let known = ["served", "refused", "elsewhere", "cut"].map(|key| held(&journal, key));
    let known = known.each_ref().map(Option::as_deref);
    assert_eq!(known, [Some("a"), None, Some("b"), Some("b")]);
    // Served is for good, in the next process too.
    attempt(&journal, "served", "a", Verdict::Refused);
    attempt(&journal, "cut", "b", Verdict::Refused);
    assert_eq!(held(&journal, "served").as_deref(), Some("a"));
    assert_eq!(held(&journal, "cut"), None);
}

#[test]
fn damaged_lines_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let journal = open(&path);
    attempt(&journal, "k", "a", Verdict::Served);
    drop(journal);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"\n\xff\n{\"at\":1}\n{\"at\":9,\"key\":\"half")
        .unwrap();
    let journal = open(&path);
    assert_eq!(held(&journal, "k").as_deref(), Some("a"));
    assert_eq!(journal.len(), 1);
    drop(journal);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.lines().all(|line| line::Read::parse(line).is_some()),
        "{text}"
    );
}

#[test]
fn a_journal_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let journal = open(&path);
    let error = Journal::open(&plan(Some(path.clone()))).unwrap_err();
    assert!(error.contains("another process writes it"), "{error}");
    drop(journal);
    assert!(Journal::open(&plan(Some(path))).is_ok());
}

#[test]
fn the_file_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let journal = open(&path);
    let kept = begin(&journal, "kept", "a").unwrap();
    let (key, provider): (Arc<str>, Arc<str>) = (Arc::from("k".repeat(200)), Arc::from("a"));
    let mut longest = 0;
    for round in 0..24 {
        for _ in 0..250 {
            let (claim, _) = journal.claim(&key, &provider, BOUNDS).unwrap();
            wait(claim.end(Verdict::Refused));
        }
        // The last of a batch waits for the disk.
        attempt(&journal, &key, &provider, Verdict::Refused);
        longest = longest.max(std::fs::metadata(&path).unwrap().len());
        assert!(longest < 3 << 20, "round {round}: {longest}");
    }
    assert!(longest > 1 << 19, "it was worth a new file: {longest}");
    drop(journal);
    drop(kept);
    let journal = open(&path);
    assert_eq!(held(&journal, "kept").as_deref(), Some("a"));
    assert_eq!(journal.len(), 1);
}

/// What the world does to one key.
#[derive(Clone, Copy, Debug)]
enum Move {
    Begin(usize),
    End(usize, Verdict),
    /// The process is killed, and another starts.
    Kill,
}

fn moves() -> impl Strategy<Value = Move> {
    let verdicts = vec![
        Verdict::Untried,
        Verdict::Refused,
        Verdict::Served,
        Verdict::Unknown,
    ];
    prop_oneof![
        4 => (0..3_usize).prop_map(Move::Begin),
        4 => (0..8_usize, prop::sample::select(verdicts)).prop_map(|(at, how)| Move::End(at, how)),
        1 => Just(Move::Kill),
    ]
}

/// What the providers may really have done under one key.
#[derive(Debug, Default)]
struct World {
    /// Who was asked last, and has not definitely refused.
    holder: Option<usize>,
    /// The number of the last attempt.
    number: u64,
    under_way: Vec<(u64, Claim)>,
    /// The attempts of which nobody knows how they ended.
    in_doubt: Vec<u64>,
    served: bool,
}

impl World {
    fn is_free(&self) -> bool {
        self.under_way.is_empty() && self.in_doubt.is_empty() && !self.served
    }

    fn begins(&mut self, provider: usize, claim: Claim) {
        self.number += 1;
        self.under_way.push((self.number, claim));
        // From here on it can be sent, and be done.
        self.holder = Some(provider);
    }

    /// An attempt ends; whether the journal says that the key is free.
    fn ends(&mut self, at: usize, verdict: Verdict) -> bool {
        let (number, claim) = self.under_way.remove(at);
        match verdict {
            Verdict::Untried => {}
            Verdict::Refused => self.in_doubt.retain(|&other| other > number),
            Verdict::Served => self.served = true,
            Verdict::Unknown => self.in_doubt.push(number),
        }
        if self.is_free() {
            self.holder = None;
        }
        wait(claim.end(verdict))
    }

    /// All that was under way is in doubt, and what is free may be held: that it was refused may not
    /// have been written, which is safe.
    fn is_killed(&mut self, known: Option<usize>) {
        self.under_way.clear();
        self.holder = known;
        self.in_doubt = known.map(|_| self.number).into_iter().collect();
    }
}

proptest! {
    #![proptest_config(config())]

    /// A provider that served, or may serve yet, keeps all others away.
    #[test]
    fn no_second_provider_is_asked_while_the_first_may_have_done_it(
        script in prop::collection::vec(moves(), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let mut journal = open(&path);
        let mut world = World::default();
        for step in script {
            match step {
                Move::Begin(provider) => {
                    let begun = begin(&journal, "k", &format!("{provider}"));
                    let may_begin = world.holder.is_none_or(|holder| holder == provider);
                    prop_assert_eq!(begun.is_ok(), may_begin);
                    if let Ok(claim) = begun {
                        world.begins(provider, claim);
                    }
                }
                Move::End(at, verdict) if at < world.under_way.len() => {
                    let said = world.ends(at, verdict);
                    prop_assert_eq!(said, world.is_free());
                }
                Move::End(..) => {}
                Move::Kill => {
                    let text = std::fs::read(&path).unwrap();
                    world.under_way.clear();
                    drop(journal);
                    std::fs::write(&path, text).unwrap();
                    journal = open(&path);
                    let known = held(&journal, "k").map(|name| name.parse::<usize>().unwrap());
                    prop_assert!(world.holder.is_none() || known == world.holder);
                    world.is_killed(known);
                }
            }
        }
    }
}

/// Each case waits for the disk: few, unless `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(64),
    }
}
