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

fn begin(journal: &Arc<Journal>, key: &str, provider: &str) -> Result<Claim, Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    runtime.block_on(journal.begin(&Arc::from(key), &Arc::from(provider), BOUNDS))
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
            let free = begin(&journal, "k", "a").unwrap().end(verdict);
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
    assert!(!second.end(Verdict::Refused));
    assert_eq!(begin(&journal, "k", "b").err(), Some(Refused::Held));
    assert!(first.end(Verdict::Refused));
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
        let free = claims.remove(0).end(Verdict::Refused);
        assert_eq!(free, is_free, "{doubtful}");
        let expected = if is_free { None } else { Some(Refused::Held) };
        assert_eq!(begin(&journal, "k", "b").err(), expected, "{doubtful}");
        // One that began after both speaks for both.
        let holder = if is_free { "b" } else { "a" };
        assert!(begin(&journal, "k", holder).unwrap().end(Verdict::Refused));
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
        begin(&journal, &format!("{number}"), "a")
            .unwrap()
            .end(Verdict::Served);
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
    begin(&journal, "served", "a").unwrap().end(Verdict::Served);
    begin(&journal, "refused", "a")
        .unwrap()
        .end(Verdict::Refused);
    begin(&journal, "elsewhere", "a")
        .unwrap()
        .end(Verdict::Refused);
    begin(&journal, "elsewhere", "b")
        .unwrap()
        .end(Verdict::Served);
    // As if the process ended here: what was begun is written, its end is not.
    let cut = begin(&journal, "cut", "b").unwrap();
    let text = std::fs::read(&path).unwrap();
    cut.end(Verdict::Untried);
    drop(journal);
    std::fs::write(&path, text).unwrap();
    let journal = open(&path);
    let known = ["served", "refused", "elsewhere", "cut"].map(|key| held(&journal, key));
    let known = known.each_ref().map(Option::as_deref);
    assert_eq!(known, [Some("a"), None, Some("b"), Some("b")]);
    // Served is for good, in the next process too.
    begin(&journal, "served", "a")
        .unwrap()
        .end(Verdict::Refused);
    begin(&journal, "cut", "b").unwrap().end(Verdict::Refused);
    assert_eq!(held(&journal, "served").as_deref(), Some("a"));
    assert_eq!(held(&journal, "cut"), None);
}

#[test]
fn damaged_lines_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let journal = open(&path);
    begin(&journal, "k", "a").unwrap().end(Verdict::Served);
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
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let mut longest = 0;
    for round in 0..24 {
        for _ in 0..250 {
            let (claim, _) = journal.claim(&key, &provider, BOUNDS).unwrap();
            claim.end(Verdict::Refused);
        }
        // The last of a batch waits for the disk.
        let claim = runtime.block_on(journal.begin(&key, &provider, BOUNDS));
        claim.unwrap().end(Verdict::Refused);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model knows what the providers have really done: a provider that served, or may serve
    /// yet, keeps all others away.
    #[test]
    fn no_second_provider_is_asked_while_the_first_may_have_done_it(
        script in prop::collection::vec(moves(), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let mut journal = open(&path);
        let mut claims: Vec<(usize, Claim)> = Vec::new();
        let mut may_have: Option<usize> = None;
        let mut served = false;
        for step in script {
            match step {
                Move::Begin(provider) => {
                    if let Ok(claim) = begin(&journal, "k", &format!("{provider}")) {
                        prop_assert!(may_have.is_none_or(|holder| holder == provider));
                        claims.push((provider, claim));
                        // From here on it can be sent, and be done.
                        may_have = Some(provider);
                    } else {
                        prop_assert!(may_have.is_some_and(|holder| holder != provider));
                    }
                }
                Move::End(at, verdict) if at < claims.len() => {
                    let (_, claim) = claims.remove(at);
                    served |= verdict == Verdict::Served;
                    if claim.end(verdict) {
                        prop_assert!(claims.is_empty() && !served);
                        may_have = None;
                    }
                }
                Move::End(..) => {}
                Move::Kill => {
                    let text = std::fs::read(&path).unwrap();
                    claims.clear();
                    drop(journal);
                    std::fs::write(&path, text).unwrap();
                    journal = open(&path);
                    // The end of an attempt may not have been written, which is safe.
                    let holder = held(&journal, "k").map(|name| name.parse::<usize>().unwrap());
                    prop_assert!(may_have.is_none() || holder == may_have);
                    may_have = holder;
                }
            }
        }
    }
}
