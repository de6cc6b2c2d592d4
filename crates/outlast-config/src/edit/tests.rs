use super::*;

/// An upstream with these lines in it, each indented by four.
fn file(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "upstreams:\n  a:\n    endpoints: [http://a:1]\n{}  b: {{ endpoints: [http://b:1] }} # last\n",
        lines.concat()
    )
}

fn set(text: &str, path: &str, value: &str) -> Result<String, String> {
    let mut file = File::parse("file.yaml", text).unwrap();
    let path: Vec<_> = path.split('.').collect();
    let result = file.set(&path, value);
    assert_eq!(file.text() == text, result.is_err(), "{text}");
    result.map_err(|error| error.to_string())?;
    assert_eq!(file.value(&path), Some(value), "{}", file.text());
    file.check().map_err(|problems| problems.to_string())?;
    Ok(file.text().to_owned())
}

/// `key` of upstream `a` becomes `value`.
fn check(before: &str, key: &str, value: &str, after: &str) {
    let told = set(&file(before), &format!("upstreams.a.{key}"), value);
    assert_eq!(told, Ok(file(after)), "{before}");
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    check("timeout: 1s", "timeout", "2.5s", "timeout: 2.5s");
    check(
        "timeout:   1s   # why",
        "timeout",
        "20ms",
        "timeout:   20ms   # why",
    );
    check("timeout: \"1s\"", "timeout", "2s", "timeout: \"2s\"");
    check(
        "timeout: >-\n  1s\n\n# why",
        "timeout",
        "2s",
        "timeout: >-\n  2s\n\n# why",
    );
    check("timeout: '1s' # ü", "timeout", "2s", "timeout: '2s' # ü");
    check(
        "retry: { attempts: 3, backoff: { base: 10ms } } # ü",
        "retry.backoff.base",
        "25ms",
        "retry: { attempts: 3, backoff: { base: 25ms } } # ü",
    );
    check(
        "idempotency_key: \"ü\\u0041\" # not ASCII, and an escape\ntimeout: 1s"
            .replace("ü", "X")
            .as_str(),
        "timeout",
        "2s",
        "idempotency_key: \"X\\u0041\" # not ASCII, and an escape\ntimeout: 2s",
    );
    check(
        "retry:\n  # one more\n  attempts: 3\n  backoff: 1s",
        "retry.attempts",
        "4",
        "retry:\n  # one more\n  attempts: 4\n  backoff: 1s",
    );
}

#[test]
fn a_key_that_is_missing_comes_last() {
    check(
        "timeout: 1s # why",
        "replay",
        "1KiB",
        "timeout: 1s # why\nreplay: 1KiB",
    );
    check(
        "retry:\n  attempts: 3 # why\n# of the timeout\ntimeout: 1s",
        "retry.backoff.base",
        "5ms",
        "retry:\n  attempts: 3 # why\n  backoff: { base: 5ms }\n# of the timeout\ntimeout: 1s",
    );
    check(
        "retry: { attempts: 3 }",
        "retry.backoff.base",
        "5ms",
        "retry: { attempts: 3, backoff: { base: 5ms } }",
    );
    check("retry: {}", "retry.attempts", "4", "retry: { attempts: 4 }");
    check(
        "retry: {\n  attempts: 3, # why\n}",
        "retry.longest_hint",
        "1s",
        "retry: {\n  attempts: 3, longest_hint: 1s, # why\n}",
    );
    check(
        "timeout: 1s",
        "breaker.cooldown",
        "4s",
        "timeout: 1s\nbreaker: { cooldown: 4s }",
    );
    // Behind a block of text, of which the parser tells the end late.
    check(
        "fallback:\n  static:\n    body: |\n      sorry\n\n      later",
        "timeout",
        "1s",
        "fallback:\n  static:\n    body: |\n      sorry\n\n      later\ntimeout: 1s",
    );
}

#[test]
fn short_forms_become_long_only_if_they_must() {
    check("budget: 10%", "budget.ratio", "20%", "budget: 20%");
    check(
        "budget: 10%",
        "budget.reserve",
        "5",
        "budget: { ratio: 10%, reserve: 5 }",
    );
    check(
        "bulkhead: 20",
        "bulkhead.queue",
        "5",
        "bulkhead: { concurrency: 20, queue: 5 }",
    );
    check(
        "breaker: on",
        "breaker.trials",
        "5",
        "breaker: { trials: 5 }",
    );
    check(
        "retry: { backoff: 1s }",
        "retry.backoff.max",
        "5s",
        "retry: { backoff: { kind: constant, base: 1s, max: 5s } }",
    );
    check(
        "retry: { backoff: 1s }",
        "retry.backoff.base",
        "2s",
        "retry: { backoff: 2s }",
    );
}

#[test]
fn the_ends_of_files_and_their_line_breaks_are_kept() {
    let text = "upstreams:\r\n  a:\r\n    endpoints: http://a:1";
    let told = set(text, "upstreams.a.timeout", "1s").unwrap();
    assert_eq!(told, format!("{text}\r\n    timeout: 1s"));
    let text = "upstreams: {a: {endpoints: [http://a:1],},}";
    let told = set(text, "upstreams.a.timeout", "1s").unwrap();
    assert_eq!(
        told,
        "upstreams: {a: {endpoints: [http://a:1], timeout: 1s,},}"
    );
}

#[test]
fn what_cannot_be_changed_is_left_alone() {
    let check = |lines: &str, key: &str, why: &str| {
        let told = set(&file(lines), &format!("upstreams.a.{key}"), "1s").unwrap_err();
        assert!(told.contains(why), "{lines}: {told}");
    };
    check("budget: off", "budget.reserve", "what is there has no keys");
    check(
        "retry: { attempts: 3 }",
        "retry",
        "no single value is there",
    );
    check("timeout: 1s", "endpoints", "no single value is there");
    // Changed, and then not a file that could be used.
    check(
        "retry: { attempts: 3 }",
        "retry.attempts",
        "write a whole number",
    );
}

#[test]
fn values_are_found_in_short_forms_too() {
    let text = file("budget: 15%\nretry: { backoff: 1s }\nbreaker: on");
    let file = File::parse("file.yaml", &text).unwrap();
    let value = |path: &str| {
        file.value(&path.split('.').collect::<Vec<_>>())
            .map(str::to_owned)
    };
    assert_eq!(value("upstreams.a.budget.ratio").as_deref(), Some("15%"));
    assert_eq!(value("upstreams.a.budget.reserve"), None);
    assert_eq!(
        value("upstreams.a.retry.backoff.base").as_deref(),
        Some("1s")
    );
    assert_eq!(value("upstreams.a.retry.attempts"), None);
    assert_eq!(value("upstreams.a.endpoints"), None);
    assert!(file.has(&["upstreams", "a", "breaker"]) && file.has(&["upstreams", "a", "endpoints"]));
    assert!(!file.has(&["upstreams", "a", "breaker", "trials"]) && !file.has(&["routes"]));
}

mod any_file {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is written where: other values stay as they are, or nothing is changed.
        #[test]
        fn nothing_else_changes(
            style in 0..3,
            key in prop::sample::select(vec!["timeout", "retry.attempts", "retry.backoff.base", "budget.ratio"]),
            value in "[ -~äß]{0,12}",
        ) {
            let text = match style {
                0 => file("timeout: 1s\nretry: { attempts: 3 }\nbudget: 10% # so"),
                1 => file("retry:\n  attempts: 2 # ß\nbudget:\n  ratio: '20%'"),
                _ => "upstreams: { b: { endpoints: [http://b:1, 'http://c:1'] }, a: { endpoints: [http://a:1] } }".into(),
            };
            let mut edited = File::parse("file.yaml", &text).unwrap();
            let path: Vec<_> = ["upstreams", "a"].into_iter().chain(key.split('.')).collect();
            let done = edited.set(&path, &value);
            prop_assert!(done.is_ok(), "{:?} {}", done, text);
            prop_assert_eq!(edited.value(&path), Some(&*value));
            let mut again = edited.clone();
            again.set(&path, &value).unwrap();
            prop_assert_eq!(again.text(), edited.text());
        }
    }
}
