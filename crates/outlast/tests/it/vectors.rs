//! The cases of `tests/vectors` that are about headers, caches and real probes; the core replays the
//! others.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use outlast::headers::{self, GRPC_TIMEOUT, X_DEADLINE, X_DEADLINE_SENT};
use outlast::health::{self, Health, Registry, Status};
use outlast::ratio::Ratio;
use outlast::{Answer, Clock, Config, Stale, Upstream};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

fn cases(pattern: &str) -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/behaviour.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    cases
        .into_iter()
        .filter(|case| case["pattern"] == pattern)
        .collect()
}

fn steps(case: &Value) -> &Vec<Value> {
    case["steps"].as_array().unwrap()
}

/// The cases whose first step has `key`; there is at least one.
fn with_step<'a>(cases: &'a [Value], key: &str) -> Vec<&'a Value> {
    let found: Vec<_> = cases
        .iter()
        .filter(|case| steps(case)[0].get(key).is_some())
        .collect();
    assert!(!found.is_empty(), "no case has {key}");
    found
}

#[test]
fn grpc_timeouts_are_read() {
    let cases = cases("timeout_deadline");
    for case in with_step(&cases, "header") {
        let Some(expected) = case["expect"]["ms"].as_object() else {
            continue;
        };
        let invalid = case["expect"]["invalid"].as_array().unwrap();
        for step in steps(case) {
            let text = step["header"].as_str().unwrap();
            let read = headers::parse_grpc_timeout(&HeaderValue::from_str(text).unwrap());
            let millis = read.map(|duration| duration.as_secs_f64() * 1e3);
            match expected.get(text) {
                Some(expected) => {
                    let difference = millis.unwrap() - expected.as_f64().unwrap();
                    assert!(difference.abs() < 1e-6, "{text}");
                }
                None => {
                    assert!(
                        invalid.iter().any(|other| other == text),
                        "{text} is not expected"
                    );
                    assert_eq!(millis, None, "{text}");
                }
            }
        }
    }
}

#[test]
fn grpc_timeouts_are_written() {
    let cases = cases("timeout_deadline");
    for case in with_step(&cases, "ns") {
        for step in steps(case) {
            let nanos = step["ns"].as_i64().unwrap();
            // A negative rest of time is none.
            let timeout = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
            let expected = &case["expect"]["header"][nanos.to_string()];
            assert_eq!(
                headers::format_grpc_timeout(timeout),
                expected.as_str().unwrap()
            );
        }
    }
}

#[test]
fn relative_deadlines_do_not_see_the_receivers_clock() {
    for case in cases("timeout_deadline") {
        let Some(offset) = case["config"]["receiver_clock_offset_ms"].as_i64() else {
            continue;
        };
        let wall = Duration::from_secs(1_700_000_000).as_millis() as i64 + offset;
        let wall = UNIX_EPOCH + Duration::from_millis(wall as u64);
        let inbound = steps(&case)[0]["header"].as_str().unwrap();
        let mut map = HeaderMap::new();
        map.insert(&GRPC_TIMEOUT, HeaderValue::from_str(inbound).unwrap());
        let remaining = headers::remaining(&map, wall, Duration::ZERO).unwrap();
        let expected = case["expect"]["outbound_remaining_ms"].as_u64().unwrap();
        assert_eq!(remaining, Duration::from_millis(expected));
    }
}

/// Two contexts with absolute times, received one after the other: what is sent on carries the
/// later clock and the earlier deadline.
#[test]
fn deadlines_combine_to_the_earliest() {
    let cases = cases("timeout_deadline");
    for case in with_step(&cases, "a") {
        let contexts = [&steps(case)[0]["a"], &steps(case)[1]["b"]];
        let number = |context: &Value, key: &str| context[key].as_u64().unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let latest = contexts
            .iter()
            .map(|context| number(context, "timestamp"))
            .max()
            .unwrap();
        let ends = contexts.iter().map(|context| {
            let sent = number(context, "timestamp");
            let mut map = HeaderMap::new();
            map.insert(&X_DEADLINE, HeaderValue::from(number(context, "deadline")));
            map.insert(&X_DEADLINE_SENT, HeaderValue::from(sent));
            sent + headers::remaining(&map, at(sent), Duration::ZERO)
                .unwrap()
                .as_secs()
        });
        let remaining = Duration::from_secs(ends.min().unwrap() - latest);
        let mut sent = HeaderMap::new();
        headers::write_deadline(&mut sent, remaining, at(latest));
        let combined = &case["expect"]["combined"];
        let seconds = |name| format!("{}.000000", number(combined, name));
        assert_eq!(sent[&X_DEADLINE], seconds("deadline"));
        assert_eq!(sent[&X_DEADLINE_SENT], seconds("timestamp"));
    }
}

#[tokio::test(start_paused = true)]
async fn stale_answers_stand_in_for_errors() {
    for case in cases("fallback_cache") {
        let Some(ttl) = case["config"]["ttl_ms"].as_u64() else {
            continue;
        };
        let stale = case["config"]["stale_ms"].as_u64().unwrap();
        // The peer counts the stale time from the end of the fresh time.
        let max_age = Duration::from_millis(ttl + stale);
        let cache = Stale::new(1, max_age)
            .unwrap()
            .fresh_for(Duration::from_millis(ttl));
        let upstream = Upstream::new(Config::new("peer")).unwrap();
        let start = Instant::now();
        for step in steps(&case) {
            sleep_until(start + Duration::from_millis(step["at_ms"].as_u64().unwrap())).await;
            let before = upstream.stats().attempts();
            let backend = step["backend"].as_str().unwrap().to_owned();
            let call = upstream.call(|_| {
                let backend = backend.clone();
                async move {
                    if backend == "err" {
                        Err(())
                    } else {
                        Ok(backend)
                    }
                }
            });
            let answer = call.fallback_stale(&cache, ()).await;
            let (source, age) = match &answer {
                Ok(Answer::Fresh(_)) => ("fresh", Duration::ZERO),
                Ok(Answer::Cached { age, .. }) => ("cache", *age),
                Ok(Answer::Stale { age, .. }) => ("stale", *age),
                Err(_) => ("error", Duration::ZERO),
            };
            for (key, expected) in step["expect"].as_object().unwrap() {
                let found: Value = match key.as_str() {
                    "value" => answer.clone().unwrap().into_value().into(),
                    "source" => source.into(),
                    "age_ms" => (age.as_millis() as u64).into(),
                    "backend_calls" => (upstream.stats().attempts() - before).into(),
                    "error" => answer.is_err().into(),
                    other => panic!("unknown expectation {other}"),
                };
                assert_eq!(&found, expected, "{key} at {}", step["at_ms"]);
            }
        }
    }
}

/// A peer's check that throws is one of ours that panics.
#[tokio::test]
async fn throwing_checks_are_down_and_the_others_still_run() {
    let mut replayed = 0;
    for case in cases("health_check") {
        for step in steps(&case) {
            let Some(checks) = step["checks"].as_object() else {
                continue;
            };
            if !checks.values().any(|status| status == "throws") {
                continue;
            }
            let health = Health::new().unwrap();
            for (name, status) in checks {
                let status = status.as_str().unwrap().to_owned();
                let probe = move || {
                    let status = status.clone();
                    async move {
                        match &*status {
                            "UP" => Ok(()),
                            "DOWN" => Err("down"),
                            "throws" => panic!("thrown"),
                            other => unreachable!("unknown status {other}"),
                        }
                    }
                };
                let config = health::Config::default().jitter(Ratio::ZERO);
                health.check(name, config, probe).unwrap();
            }
            all_probed(&health).await;
            let answer = health.answer("/health/ready").unwrap();
            let status = if health.is_ready() { "UP" } else { "DOWN" };
            assert_eq!(step["expect"]["status"], status);
            assert_eq!(step["expect"]["http"], answer.status);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no case has a check that throws");
}

#[tokio::test(start_paused = true)]
async fn checks_run_side_by_side_and_are_cut_by_their_timeouts() {
    let mut replayed = 0;
    for case in cases("health_check") {
        let Some(checks) = case["config"]["checks"].as_object() else {
            continue;
        };
        assert_eq!(steps(&case).len(), 1);
        assert_eq!(steps(&case)[0]["op"], "run");
        let health = Health::new().unwrap();
        let start = Clock::Precise.now();
        for (name, check) in checks {
            let millis = |key: &str| check[key].as_u64().map(Duration::from_millis);
            let took = millis("took_ms").unwrap();
            // The peer's default is none; a minute is longer than all of them take.
            let timeout = millis("timeout_ms").unwrap_or(Duration::from_secs(60));
            let config = health::Config::default()
                .interval(Duration::from_secs(60))
                .timeout(timeout)
                .jitter(Ratio::ZERO);
            let probe = move || async move {
                tokio::time::sleep(took).await;
                Ok::<_, String>(())
            };
            health.check(name, config, probe).unwrap();
        }
        let registry = all_probed(&health).await;
        let mut ends = start;
        for check in registry.checks() {
            ends = ends.max(check.last().unwrap().at);
            let found = match (check.status(), check.error()) {
                (Status::Up, _) => "Healthy",
                (Status::Down, Some(error)) if error.starts_with("no answer within") => {
                    "failure_status, timed out"
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(case["expect"][check.name()], found);
        }
        let status = if registry.is_ready() {
            "Healthy"
        } else {
            "Unhealthy"
        };
        assert_eq!(case["expect"]["status"], status);
        let millis = ends.since(start).as_millis() as u64;
        assert_eq!(case["expect"]["ends_at_ms"], millis);
        replayed += 1;
    }
    assert!(replayed > 0, "no case has checks that take time");
}

/// Waits until every check has a result.
async fn all_probed(health: &Health) -> Registry {
    let probed = async {
        loop {
            let registry = health.snapshot();
            if registry.checks().iter().all(|check| check.last().is_some()) {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let within = Duration::from_secs(30);
    tokio::time::timeout(within, probed).await.unwrap()
}

/// The events of the specification are states of ours: a provider turns stale when nobody looks at
/// the signals, and ready when somebody does.
#[cfg(feature = "open-feature")]
#[tokio::test(start_paused = true)]
async fn flags_have_defaults_and_tell_when_they_are_stale() {
    use open_feature::EvaluationContext;
    use open_feature::provider::{FeatureProvider, ProviderStatus};
    use outlast::open_feature::Provider;

    let one_of = |expected: &Value, found: &str| {
        let expected = expected.as_str().unwrap();
        let mut words = expected.split([' ', '|']);
        assert!(
            words.any(|word| word == found),
            "{found} is none of {expected}"
        );
    };
    let mut replayed = 0;
    for case in cases("feature_tier") {
        // Those of several providers are the SDK's business.
        if case["config"].get("providers").is_some() {
            continue;
        }
        let fails = steps(&case)[0].get("provider").is_some();
        let features = crate::flags::features();
        let mut provider = Provider::new(features.clone());
        let context = EvaluationContext::default();
        if !fails {
            provider.initialize(&context).await;
            features.force("lean", Duration::MAX).unwrap();
        }
        for step in steps(&case) {
            let expect = &step["expect"];
            let resolved = provider
                .resolve_bool_value("recommendations", &context)
                .await;
            if let Some("error") = step["provider"].as_str() {
                let default = &case["config"]["default"];
                let error = resolved.unwrap_err();
                assert_eq!(
                    (default, "ERROR"),
                    (&expect["value"], expect["reason"].as_str().unwrap())
                );
                one_of(&expect["error_code"], &error.code.to_string());
                continue;
            }
            match (step["event"].as_str(), step["op"].as_str()) {
                (Some("PROVIDER_STALE"), None) => {
                    tokio::time::advance(Duration::from_secs(11)).await;
                    assert_eq!(provider.status(), ProviderStatus::STALE);
                }
                (Some("PROVIDER_READY"), None) => drop(features.tick()),
                (None, Some("evaluate")) => {
                    let details = resolved.unwrap();
                    assert_eq!(expect["value"], "last known");
                    assert!(!details.value, "it was off when it was last known");
                    one_of(&expect["reason"], &details.reason.unwrap().to_string());
                }
                (None, Some("status")) => {
                    let status = format!("{:?}", provider.status()).to_uppercase();
                    assert_eq!(expect.as_str().unwrap(), status);
                }
                other => panic!("unknown step {other:?}"),
            }
        }
        replayed += 1;
    }
    assert!(replayed >= 2, "{replayed}");
}
