//! A gateway's `/status`, as far as advice goes, and what happened between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use outlast_sim::advise::{Bucket, Observed, Settings, Value as AdvisedValue};
use serde_json::Value;

/// A gateway at a time.
#[derive(Debug)]
pub(super) struct Snapshot {
    at: f64,
    upstreams: Vec<Measured>,
}

/// What was measured of an upstream since its counters began.
#[derive(Clone, Debug)]
struct Measured {
    name: String,
    since: f64,
    counts: Counts,
    busiest: u64,
    settings: Settings,
    words: Words,
}

/// What was seen of an upstream in a window.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) upstream: String,
    pub(super) observed: Observed,
    pub(super) words: Words,
}

/// What is set to something that advice has no number for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// When a hedge starts, if that is a quantile: `p95`.
    pub(super) hedge: Option<String>,
    /// All rules of a breaker, if one is about a share, or a window that is a time.
    pub(super) breaker: Option<String>,
}

/// All that is counted: of two moments, the difference is what happened between them.
#[derive(Clone, Debug)]
struct Counts {
    /// By the bucket's bound in microseconds.
    answered: BTreeMap<u64, u64>,
    cut: BTreeMap<u64, u64>,
    /// By arrivals.
    seconds: BTreeMap<u64, u64>,
    /// Successes, transient and permanent failures, overloads.
    outcomes: [u64; 4],
}

impl Snapshot {
    /// An error says what is missing.
    pub(super) fn parse(text: &str) -> Result<Snapshot, String> {
        let status: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let upstreams = status["upstreams"].as_array();
        let upstreams = upstreams.ok_or("it has no `upstreams`")?.iter();
        Ok(Snapshot {
            at: number(&status, "at")?,
            upstreams: upstreams.map(Measured::read).collect::<Result<_, _>>()?,
        })
    }

    /// Everything since the counters began.
    pub(super) fn whole(self) -> Vec<Seen> {
        let at = self.at;
        let upstreams = self.upstreams.into_iter();
        upstreams
            .map(|measured| {
                let window = at - measured.since;
                measured.observed(window)
            })
            .collect()
    }

    /// What happened since `before`; an error says why that cannot be told.
    pub(super) fn since(self, before: &Snapshot) -> Result<Vec<Seen>, String> {
        let window = self.at - before.at;
        if window <= 0.0 {
            return Err("the snapshot of --since is not the earlier one; swap them".to_owned());
        }
        let between = |mut measured: Measured| {
            let earlier = before.upstreams.iter();
            let Some(earlier) = earlier
                .filter(|earlier| (earlier.since - measured.since).abs() < SAME)
                .find(|earlier| earlier.name == measured.name)
            else {
                return Err(format!(
                    "the counters of upstream `{}` began anew between the snapshots: the gateway \
                     was restarted, or the upstream's settings changed; leave the earlier one out",
                    measured.name
                ));
            };
            measured.counts.subtract(&earlier.counts);
            Ok(measured.observed(window))
        };
        self.upstreams.into_iter().map(between).collect()
    }
}

impl Measured {
    fn read(upstream: &Value) -> Result<Measured, String> {
        let name = upstream["name"].as_str().ok_or("an upstream has no name")?;
        let (samples, set) = (&upstream["samples"], &upstream["settings"]);
        if samples.is_null() || set.is_null() {
            return Err(format!(
                "upstream `{name}` has no `samples` or no `settings`: it is of another version"
            ));
        }
        let counts = Counts {
            answered: buckets(&samples["answered"], 1e3)?,
            cut: buckets(&samples["cut"], 1e3)?,
            seconds: buckets(&samples["seconds"], 1.0)?,
            outcomes: OUTCOMES.map(|outcome| {
                let endpoints = upstream["endpoints"].as_array().into_iter().flatten();
                endpoints
                    .filter_map(|endpoint| endpoint[outcome].as_u64())
                    .sum()
            }),
        };
        let millis = |key: &str| {
            let millis = set[key].as_f64();
            millis.map(|millis| seconds(millis / 1e3))
        };
        let breaker = match (set["failures"].as_u64(), set["consecutive"].as_u64()) {
            (Some(failures), _) => Some((failures, set["failures_within"].as_u64())),
            (None, consecutive) => consecutive.map(|failures| (failures, None)),
        };
        Ok(Measured {
            name: name.to_owned(),
            since: number(samples, "since")?,
            counts,
            busiest: samples["busiest"].as_u64().unwrap_or(0),
            words: Words::read(set),
            settings: Settings {
                timeout: millis("timeout_ms"),
                deadline: millis("deadline_ms"),
                concurrency: set["concurrency"].as_u64(),
                queue: set["queue"].as_u64(),
                hedge: millis("hedge_ms"),
                breaker,
                attempts: set["attempts"].as_u64(),
                ratio: set["budget"].as_f64(),
            },
        })
    }

    fn observed(self, window: f64) -> Seen {
        let counts = self.counts;
        let times = |counts: BTreeMap<u64, u64>| {
            let bucket = |(micros, count)| Bucket {
                upper: Duration::from_micros(micros),
                count,
            };
            counts.into_iter().map(bucket).collect()
        };
        let [successes, transient, permanent, overloads] = counts.outcomes;
        let arrivals = counts.seconds.into_iter();
        let observed = Observed {
            window: seconds(window.max(0.0)),
            answered: times(counts.answered),
            cut: times(counts.cut),
            successes,
            transient,
            permanent,
            overloads,
            arrivals: arrivals.map(|(rate, count)| (rate as f64, count)).collect(),
            // The most that was ever seen is a capacity, whenever that was.
            busiest: (self.busiest > 0).then_some(self.busiest as f64),
            settings: self.settings,
            ..Observed::default()
        };
        Seen {
            upstream: self.name,
            observed,
            words: self.words,
        }
    }
}

impl Words {
    fn read(set: &Value) -> Words {
        let percent = |share: f64| format!("{}%", (share * 1e6).round() / 1e4);
        let hedge = set["hedge_quantile"].as_f64();
        let hedge = hedge.map(|share| format!("p{}", (share * 1e6).round() / 1e4));
        let within = match (&set["failures_within"], &set["failures_within_ms"]) {
            (Value::Number(calls), _) => format!(" within {calls} calls"),
            (_, Value::Number(millis)) => {
                let time = seconds(millis.as_f64().unwrap_or_default() / 1e3);
                format!(" within {}", AdvisedValue::Time(time))
            }
            _ => String::new(),
        };
        let ratio = set["failure_ratio"].as_f64();
        let ratio = ratio.map(|share| format!("ratio {}{within}", percent(share)));
        let slow = set["slow_ms"].as_f64().zip(set["slow_ratio"].as_f64());
        let slow = slow.map(|(millis, share)| {
            let after = AdvisedValue::Time(seconds(millis / 1e3));
            format!("{} slower than {after}{within}", percent(share))
        });
        let failures = set["failures"].as_u64();
        let failures = failures.map(|failures| format!("{failures}{within}"));
        let needs_words =
            ratio.is_some() || slow.is_some() || set["failures_within_ms"].is_number();
        let in_a_row = set["consecutive"].as_u64();
        let in_a_row = in_a_row.map(|failures| format!("{failures} in a row"));
        let rules: Vec<_> = [in_a_row, failures, ratio, slow]
            .into_iter()
            .flatten()
            .collect();
        Words {
            hedge,
            breaker: needs_words.then(|| rules.join(" or ")),
        }
    }
}

impl Counts {
    /// Counters of an endpoint that left are gone; what it had counted is not counted below zero.
    fn subtract(&mut self, earlier: &Counts) {
        let pairs = [
            (&mut self.answered, &earlier.answered),
            (&mut self.cut, &earlier.cut),
            (&mut self.seconds, &earlier.seconds),
        ];
        for (counts, earlier) in pairs {
            for (bound, count) in counts.iter_mut() {
                *count = count.saturating_sub(earlier.get(bound).copied().unwrap_or(0));
            }
            counts.retain(|_, count| *count > 0);
        }
        for (count, earlier) in self.outcomes.iter_mut().zip(earlier.outcomes) {
            *count = count.saturating_sub(earlier);
        }
    }
}

fn number(object: &Value, key: &str) -> Result<f64, String> {
    let number = object[key].as_f64();
    number.ok_or_else(|| format!("it has no number `{key}`"))
}

/// Pairs of a bound and a count; bounds get integers, as keys.
fn buckets(list: &Value, scale: f64) -> Result<BTreeMap<u64, u64>, String> {
    let pairs = list.as_array().ok_or("`samples` has no buckets")?.iter();
    let pair = |pair: &Value| {
        let bound = pair[0].as_f64().filter(|bound| *bound >= 0.0);
        Some(((bound? * scale).round() as u64, pair[1].as_u64()?))
    };
    let pairs = pairs.map(|one| pair(one).ok_or("a bucket is a bound and a count"));
    Ok(pairs.collect::<Result<_, _>>()?)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

const OUTCOMES: [&str; 4] = ["successes", "transient", "permanent", "overloads"];
/// Seconds that a number loses on its way through JSON at the most.
const SAME: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(at: f64, since: f64, answered: &Value, successes: u64) -> Snapshot {
        let status = json!({
            "at": at,
            "upstreams": [{
                "name": "up",
                "endpoints": [{ "successes": successes, "transient": 1, "permanent": 0,
                    "overloads": 0 }, { "successes": 1, "transient": 1, "permanent": 0,
                    "overloads": 0 }],
                "samples": { "since": since, "answered": answered, "cut": [[100.5, 3]],
                    "seconds": [[0, 5], [12, 4]], "busiest": 12 },
                "settings": { "timeout_ms": 100.0, "consecutive": 5 },
            }],
        });
        Snapshot::parse(&status.to_string()).unwrap()
    }

    #[test]
    fn a_snapshot_is_what_happened_since_the_counters_began() {
        let snapshot = status(1_000.5, 900.0, &json!([[1.023, 7], [2.047, 1]]), 10);
        let [seen] = snapshot.whole().try_into().unwrap();
        assert_eq!(seen.upstream, "up");
        let bucket = |micros, count| Bucket {
            upper: Duration::from_micros(micros),
            count,
        };
        let expected = Observed {
            window: Duration::from_millis(100_500),
            answered: vec![bucket(1_023, 7), bucket(2_047, 1)],
            cut: vec![bucket(100_500, 3)],
            successes: 11,
            transient: 2,
            arrivals: vec![(0.0, 5), (12.0, 4)],
            busiest: Some(12.0),
            settings: Settings {
                timeout: Some(Duration::from_millis(100)),
                breaker: Some((5, None)),
                ..Settings::default()
            },
            ..Observed::default()
        };
        assert_eq!(seen.observed, expected);
    }

    #[test]
    fn two_snapshots_are_what_happened_between_them() {
        let before = status(1_000.0, 900.0, &json!([[1.023, 7]]), 10);
        let after = status(1_060.0, 900.0, &json!([[1.023, 9], [2.047, 1]]), 13);
        let [seen] = after.since(&before).unwrap().try_into().unwrap();
        let observed = seen.observed;
        assert_eq!(observed.window, Duration::from_secs(60));
        let counts: Vec<_> = observed.answered.iter().map(|one| one.count).collect();
        assert_eq!((counts, observed.successes), (vec![2, 1], 3));
        assert!(observed.cut.is_empty() && observed.arrivals.is_empty());
        let wrong = |after: Snapshot| after.since(&before).unwrap_err();
        let earlier = status(990.0, 900.0, &json!([]), 0);
        assert!(wrong(earlier).contains("swap them"));
        let restarted = status(1_060.0, 1_030.0, &json!([]), 0);
        assert!(wrong(restarted).contains("began anew"));
    }

    #[test]
    fn what_is_no_number_has_words() {
        let check = |set: Value, hedge: Option<&str>, breaker: Option<&str>| {
            let words = Words::read(&set);
            let found = (words.hedge.as_deref(), words.breaker.as_deref());
            assert_eq!(found, (hedge, breaker), "{set}");
        };
        check(json!({ "hedge_quantile": 0.95 }), Some("p95"), None);
        check(json!({ "hedge_quantile": 0.999 }), Some("p99.9"), None);
        check(json!({ "consecutive": 5 }), None, None);
        check(json!({ "failures": 3, "failures_within": 14 }), None, None);
        let ratio = json!({ "failure_ratio": 0.5, "failures_within_ms": 30_000.0 });
        check(ratio, None, Some("ratio 50% within 30s"));
        let all = json!({
            "consecutive": 5, "failures": 3, "failures_within": 14, "slow_ms": 500.0, "slow_ratio": 0.125,
        });
        let told = "5 in a row or 3 within 14 calls or 12.5% slower than 500ms within 14 calls";
        check(all, None, Some(told));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        let check = |text: &str, why: &str| {
            let error = Snapshot::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        check("<html>", "expected value");
        check("{}", "no `upstreams`");
        check("{\"upstreams\": []}", "no number `at`");
        let old = "{\"at\": 1, \"upstreams\": [{\"name\": \"up\"}]}";
        check(old, "another version");
        let bad = "{\"at\": 1, \"upstreams\": [{\"name\": \"up\", \"settings\": {}, \"samples\": \
            {\"answered\": [[1]]}}]}";
        check(bad, "a bound and a count");
    }
}
