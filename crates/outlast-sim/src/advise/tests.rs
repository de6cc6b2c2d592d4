use super::*;

const MS: Duration = Duration::from_millis(1);

/// An upstream of 500 a second for an hour, 30 ms each, one in a thousand 200 ms, one in a thousand
/// failing.
fn healthy() -> Observed {
    Observed {
        window: Duration::from_secs(3_600),
        answered: vec![
            Bucket {
                upper: 30 * MS,
                count: 1_797_000,
            },
            Bucket {
                upper: 200 * MS,
                count: 3_000,
            },
        ],
        successes: 1_798_200,
        transient: 1_800,
        arrivals: vec![(500.0, 3_600)],
        busiest: Some(600.0),
        settings: Settings {
            timeout: Some(Duration::from_secs(30)),
            deadline: Some(Duration::from_secs(1)),
            ..Settings::default()
        },
        ..Observed::default()
    }
}

fn of(observed: &Observed, goals: &Goals, parameter: Parameter) -> Recommendation {
    let all = advise(observed, goals);
    assert_eq!(all.len(), Parameter::ALL.len());
    let found = all.into_iter().find(|one| one.parameter == parameter);
    found.unwrap()
}

fn value(observed: &Observed, goals: &Goals, parameter: Parameter) -> Value {
    let found = of(observed, goals, parameter);
    found.value().unwrap_or_else(|| panic!("{found:?}"))
}

fn refused(observed: &Observed, goals: &Goals, parameter: Parameter, why: &str, needs: &str) {
    match of(observed, goals, parameter).verdict {
        Verdict::Refused {
            why: said,
            needs: asked,
        } => {
            assert!(said.contains(why), "{parameter:?}: {said}");
            assert!(asked.contains(needs), "{parameter:?}: {asked}");
        }
        advised @ Verdict::Advised { .. } => panic!("{parameter:?}: {advised:?}"),
    }
}

#[test]
fn a_healthy_upstream_is_advised() {
    let (observed, goals) = (healthy(), Goals::default());
    let check = |parameter, expected| assert_eq!(value(&observed, &goals, parameter), expected);
    // Three in 1,800 take 200 ms, more than the one in a thousand that may be cut.
    check(Parameter::Timeout, Value::Time(200 * MS));
    // 500 * (0.03 * 0.99833 + 0.2 * 0.00167) = 15.14.
    check(Parameter::Concurrency, Value::Count(23));
    // 600 * (1 - 0.030283).
    check(Parameter::Queue, Value::Count(581));
    check(Parameter::Hedge, Value::Time(30 * MS));
    // 0.104 % on normal days.
    check(Parameter::Breaker, Value::Of(3, 14));
    check(Parameter::Attempts, Value::Count(2));
    // Half of 600/500 - 1.
    check(Parameter::Ratio, Value::Share(0.1));
    let timeout = of(&observed, &goals, Parameter::Timeout);
    assert_eq!(timeout.n, 1_800_000);
    assert_eq!(timeout.window, observed.window);
    assert_eq!(timeout.current, Some(Value::Time(Duration::from_secs(30))));
}

#[test]
fn the_timeout_of_a_short_tail_is_padded_and_a_deadline_bounds_it() {
    let short = Observed {
        answered: vec![Bucket {
            upper: 30 * MS,
            count: 100_000,
        }],
        ..healthy()
    };
    let goals = Goals::default();
    assert_eq!(
        value(&short, &goals, Parameter::Timeout),
        Value::Time(60 * MS)
    );
    let hurried = Goals {
        deadline: Some(50 * MS),
        ..goals
    };
    assert_eq!(
        value(&short, &hurried, Parameter::Timeout),
        Value::Time(50 * MS)
    );
}

#[test]
fn a_queue_is_no_longer_than_its_seats_can_serve() {
    let goals = Goals {
        capacity: Some(2_000.0),
        ..Goals::default()
    };
    // 23 seats of 30.28 ms let 759.5 a second through; 759.5 * (1 - 0.03028).
    assert_eq!(
        value(&healthy(), &goals, Parameter::Queue),
        Value::Count(736)
    );
    let slow = Goals {
        cold: Some(100.0),
        ..goals.clone()
    };
    assert_eq!(value(&healthy(), &slow, Parameter::Queue), Value::Count(96));
    // Seats that are not advised are those that are set.
    let short = Observed {
        arrivals: vec![(500.0, 10)],
        settings: Settings {
            concurrency: Some(1),
            ..healthy().settings
        },
        ..healthy()
    };
    assert_eq!(value(&short, &goals, Parameter::Queue), Value::Count(32));
}

#[test]
fn a_timeout_that_cuts_the_tail_is_not_advised_again() {
    // 1 % would take 500 ms, and was cut at 100 ms. Among those that answered the p99.9 is 30 ms.
    let cut = Observed {
        answered: vec![Bucket {
            upper: 30 * MS,
            count: 990_000,
        }],
        cut: vec![Bucket {
            upper: 100 * MS,
            count: 10_000,
        }],
        ..healthy()
    };
    let goals = Goals::default();
    refused(
        &cut,
        &goals,
        Parameter::Timeout,
        "10000 of 1000000 attempts were cut off",
        "200ms",
    );
    // The twentieth slowest is seen all the same.
    assert_eq!(value(&cut, &goals, Parameter::Hedge), Value::Time(30 * MS));
}

#[test]
fn too_little_data_is_refused_with_what_is_needed() {
    let few = Observed {
        window: Duration::from_secs(10),
        answered: vec![Bucket {
            upper: 30 * MS,
            count: 200,
        }],
        successes: 200,
        transient: 0,
        arrivals: vec![(20.0, 10)],
        busiest: None,
        settings: Settings::default(),
        ..healthy()
    };
    let goals = Goals::default();
    let check = |parameter, why, needs| refused(&few, &goals, parameter, why, needs);
    check(
        Parameter::Timeout,
        "200 attempts are too few to know what 0.1% of them exceed",
        "100000 attempts: about 84 min more at this rate",
    );
    check(
        Parameter::Concurrency,
        "10 seconds are too few",
        "300 seconds",
    );
    check(Parameter::Queue, "how long callers wait", "a deadline");
    check(
        Parameter::Hedge,
        "200 attempts",
        "400 attempts: about 10 s more",
    );
    check(Parameter::Breaker, "200 attempts", "300 attempts");
    check(Parameter::Attempts, "200 attempts", "300 attempts");
    check(Parameter::Ratio, "10 seconds", "300 seconds");
    refused(
        &Observed::default(),
        &goals,
        Parameter::Timeout,
        "0 attempts",
        "100000 attempts",
    );
    let told = Goals {
        peak: Some(20.0),
        deadline: Some(MS),
        capacity: Some(100.0),
        ..goals
    };
    refused(
        &few,
        &told,
        Parameter::Concurrency,
        "mean time",
        "1000 attempts: about 40 s",
    );
    refused(&few, &told, Parameter::Queue, "mean time", "1000 attempts");
    // What is stated needs no data.
    assert_eq!(value(&few, &told, Parameter::Ratio), Value::Share(0.2));
}

#[test]
fn an_outage_is_no_baseline() {
    let outage = Observed {
        successes: 900_000,
        transient: 900_000,
        ..healthy()
    };
    let goals = Goals::default();
    for parameter in [
        Parameter::Breaker,
        Parameter::Attempts,
        Parameter::Concurrency,
        Parameter::Queue,
    ] {
        refused(&outage, &goals, parameter, "outage", "without an outage");
    }
}

#[test]
fn what_does_harm_is_refused() {
    let goals = Goals {
        capacity: Some(510.0),
        ..Goals::default()
    };
    // 500 of 510 are busier than 1/1.05 - 0.05.
    refused(
        &healthy(),
        &goals,
        Parameter::Hedge,
        "busy to 98.04%",
        "555/s",
    );
    let together = Observed {
        slow_together: Some(4.0),
        ..healthy()
    };
    let goals = Goals::default();
    refused(
        &together,
        &goals,
        Parameter::Hedge,
        "slow together 4.0 times",
        "second endpoint",
    );
    let clustered = Observed {
        failures_cluster: Some(0.5),
        ..healthy()
    };
    refused(
        &clustered,
        &goals,
        Parameter::Attempts,
        "clusters",
        "longer waits",
    );
    let full = Goals {
        capacity: Some(500.0),
        ..goals.clone()
    };
    refused(&healthy(), &full, Parameter::Ratio, "no room", "505/s");
    // More than one in a hundred thousand fails whatever is tried.
    let bad = Observed {
        successes: 91_000,
        transient: 9_000,
        ..healthy()
    };
    let strict = Goals {
        failed: 1e-6,
        ..goals.clone()
    };
    refused(
        &bad,
        &strict,
        Parameter::Attempts,
        "more than 5 attempts",
        "fallback",
    );
    let subtle = Goals {
        outage: 0.1,
        ..goals
    };
    refused(
        &bad,
        &subtle,
        Parameter::Breaker,
        "too near",
        "fails less often",
    );
}

#[test]
fn thresholds_trip_rarely_and_in_time() {
    let goals = Goals::default();
    for (successes, transient) in [(300, 0), (10_000, 10), (1_000, 50), (91_000, 9_000)] {
        let observed = Observed {
            successes,
            transient,
            ..Observed::default()
        };
        let Value::Of(failures, calls) = value(&observed, &goals, Parameter::Breaker) else {
            panic!("a breaker counts failures of calls");
        };
        let (_, normal) = tails::share_between(transient, successes + transient);
        assert!(tails::at_least(failures, calls, normal) <= 1e-6);
        assert!(tails::at_least(failures - 1, calls, normal) > 1e-6);
        assert!(tails::at_least(failures, calls, 0.5) >= 0.99);
    }
}

#[test]
fn attempts_are_enough_for_what_may_fail() {
    let check = |successes, transient, expected| {
        let observed = Observed {
            successes,
            transient,
            ..Observed::default()
        };
        let found = value(&observed, &Goals::default(), Parameter::Attempts);
        assert_eq!(found, Value::Count(expected), "{successes} {transient}");
    };
    check(10_000_000, 0, 1);
    check(1_000_000, 1_000, 2);
    check(300, 0, 2);
    check(99_000, 1_000, 3);
    check(91_000, 9_000, 4);
}

#[test]
fn the_busiest_in_a_hundred_seconds_counts() {
    let observed = Observed {
        arrivals: vec![(100.0, 9_890), (400.0, 100), (1_000.0, 10)],
        ..healthy()
    };
    let goals = Goals {
        capacity: Some(480.0),
        ..Goals::default()
    };
    // 1.1 % of the seconds have 400: the peak of the week counts, not its mean, nor its maximum.
    assert_eq!(
        value(&observed, &goals, Parameter::Ratio),
        Value::Share(0.1)
    );
}

#[test]
fn shares_are_told_in_as_many_digits_as_they_need() {
    let check = |share, text: &str| assert_eq!(times::percent(share), text);
    check(0.05, "5%");
    check(0.001, "0.1%");
    check(1e-6, "0.0001%");
    check(0.980_392, "98.04%");
}

#[test]
#[should_panic(expected = "a share of the goals")]
fn a_share_above_one_is_a_mistake() {
    let goals = Goals {
        hedged: 5.0,
        ..Goals::default()
    };
    advise(&healthy(), &goals);
}
