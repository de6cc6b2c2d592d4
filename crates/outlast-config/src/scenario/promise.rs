//! Promises: what a simulated run has to show, as a sentence.
//!
//! `MEASURE [of NAME] LIMIT [WINDOW] [in SHARE of runs]`, such as `goodput >= 95% within 5s of
//! recovery`, `attempts/calls <= 1.1`, `p99 of shop < 300ms during faults`, `peak of db <= 40`,
//! `no wasted work after deadline`.

use std::time::Duration;

use crate::value;

/// What has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// As it was written.
    pub text: String,
    /// What is measured.
    pub measure: Measure,
    /// The client or service it is measured of; all clients together by default.
    pub of: Option<String>,
    /// What it may be.
    pub limit: Limit,
    /// When.
    pub window: Window,
    /// In how many of the runs; all by default.
    pub runs: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The share of calls that were answered well and in time.
    Goodput,
    /// The share of seconds in which at least 99 % of the calls were.
    Availability,
    /// The share of calls that a policy ended.
    Rejected,
    /// Attempts a call.
    Attempts,
    /// What this share of the good calls' latencies does not exceed, in seconds.
    Quantile(f64),
    /// Seconds from the end of the last fault until all is well.
    Recovery,
    /// The most requests at once at a service.
    Peak,
    /// The share of answers that nobody waited for.
    Wasted,
    /// Requests that were begun after their deadline.
    Late,
    /// The share of sagas that ended done or undone.
    Settled,
    /// The share of sagas that ended done.
    Completed,
    /// The share of sagas that ended undone.
    Compensated,
    /// The share of sagas that were to begin and did not.
    Refused,
    /// Sagas that wait for somebody at the end.
    Waiting,
    /// Sagas that ended undone and left something behind.
    HalfDone,
    /// How often a service did the work of a step once more.
    Twice,
}

impl Measure {
    /// Whether it is measured of sagas alone.
    pub fn is_of_sagas(self) -> bool {
        matches!(
            self,
            Measure::Settled
                | Measure::Completed
                | Measure::Compensated
                | Measure::Refused
                | Measure::Waiting
                | Measure::HalfDone
                | Measure::Twice
        )
    }

    /// Whether it is a share.
    pub fn is_share(self) -> bool {
        matches!(
            self,
            Measure::Goodput
                | Measure::Availability
                | Measure::Rejected
                | Measure::Wasted
                | Measure::Settled
                | Measure::Completed
                | Measure::Compensated
                | Measure::Refused
        )
    }
}

/// What it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Whether it has to be above; or else below.
    pub above: bool,
    /// Whether it may be just that.
    pub equal: bool,
    /// A share, a number, or seconds.
    pub value: f64,
}

impl Limit {
    /// Whether a value keeps it.
    pub fn holds(&self, value: f64) -> bool {
        match (self.above, self.equal) {
            (true, true) => value >= self.value,
            (true, false) => value > self.value,
            (false, true) => value <= self.value,
            (false, false) => value < self.value,
        }
    }
}

/// When it has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All the time that is measured.
    Always,
    /// From so long after the end of the last fault on.
    Recovered(Duration),
    /// From the first fault's beginning to the last one's end.
    During,
    /// Before the first fault.
    Before,
    /// Between two times.
    Between(Span),
}

/// From one time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The beginning.
    pub from: Duration,
    /// The end.
    pub to: Duration,
}

/// Reads a promise.
pub(crate) fn promise(text: &str) -> Result<Promise, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut rest = words.as_slice();
    let (measure, limit) = match rest {
        ["no", "wasted", "work", "after", "deadline", ..] => {
            rest = &rest[5..];
            (Measure::Late, Some(NONE))
        }
        ["no", "wasted", "work", ..] => {
            rest = &rest[3..];
            (Measure::Wasted, Some(NONE))
        }
        ["no", "half-done", "saga" | "sagas", ..] => {
            rest = &rest[3..];
            (Measure::HalfDone, Some(NONE))
        }
        ["no", "work", "done", "twice", ..] => {
            rest = &rest[4..];
            (Measure::Twice, Some(NONE))
        }
        [word, ..] => {
            let measure = measure(word)?;
            rest = &rest[1..];
            (measure, None)
        }
        [] => return Err(HOW.to_owned()),
    };
    let of = match rest {
        ["of", name, ..] => {
            rest = &rest[2..];
            Some((*name).to_owned())
        }
        _ => None,
    };
    let limit = match (limit, rest) {
        (Some(limit), _) => limit,
        (None, [sign, value, ..]) => {
            rest = &rest[2..];
            self::limit(measure, sign, value)?
        }
        (None, _) => return Err(HOW.to_owned()),
    };
    let window = window(&mut rest)?;
    let runs = match rest {
        ["in", share, "of", "runs"] => match value::share(share)?.as_f64() {
            0.0 => {
                let mend =
                    "what need not be kept in any run is no promise; write e.g. `in 95% of runs`";
                return Err(mend.to_owned());
            }
            runs => runs,
        },
        [] => 1.0,
        _ => return Err(format!("`{}` is not understood; {HOW}", rest.join(" "))),
    };
    refuse_window(measure, window)?;
    let text = words.join(" ");
    Ok(Promise {
        text,
        measure,
        of,
        limit,
        window,
        runs,
    })
}

fn measure(word: &str) -> Result<Measure, String> {
    Ok(match word {
        "goodput" => Measure::Goodput,
        "availability" => Measure::Availability,
        "rejected" => Measure::Rejected,
        "attempts/calls" => Measure::Attempts,
        "recovery" => Measure::Recovery,
        "peak" => Measure::Peak,
        "wasted" => Measure::Wasted,
        "settled" => Measure::Settled,
        "completed" => Measure::Completed,
        "compensated" => Measure::Compensated,
        "refused" => Measure::Refused,
        "waiting" => Measure::Waiting,
        "half-done" => Measure::HalfDone,
        "twice" => Measure::Twice,
        _ => match value::quantile(word) {
            Some(share) => Measure::Quantile(share.as_f64()),
            None => return Err(format!("`{word}` is not measured; {HOW}")),
        },
    })
}

fn limit(measure: Measure, sign: &str, text: &str) -> Result<Limit, String> {
    let (above, equal) = match sign {
        ">=" => (true, true),
        ">" => (true, false),
        "<=" => (false, true),
        "<" => (false, false),
        _ => {
            return Err(format!(
                "`{sign}` is no limit: write `>=`, `>`, `<=` or `<`"
            ));
        }
    };
    let value = match measure {
        _ if measure.is_share() => value::share(text)?.as_f64(),
        Measure::Quantile(_) | Measure::Recovery => value::duration(text)?.as_secs_f64(),
        _ => value::decimal(text).ok_or("write a number such as `1.1`")?,
    };
    if measure.is_share() && above && !equal && value >= 1.0 {
        return Err("nothing is more than all; write `>= 100%`".to_owned());
    }
    if !above && !equal && value <= 0.0 {
        return Err(format!("nothing is less than nothing; write `<= {text}`"));
    }
    Ok(Limit {
        above,
        equal,
        value,
    })
}

fn window(rest: &mut &[&str]) -> Result<Window, String> {
    let (window, taken) = match rest {
        ["within", after, "of", "recovery", ..] => (Window::Recovered(value::duration(after)?), 4),
        ["during", "faults", ..] => (Window::During, 2),
        ["before", "faults", ..] => (Window::Before, 2),
        ["from", from, "to", to, ..] => {
            let written = (from, to);
            let (from, to) = (value::duration(from)?, value::duration(to)?);
            if from >= to {
                return Err(format!("`{}` is not before `{}`", written.0, written.1));
            }
            (Window::Between(Span { from, to }), 4)
        }
        _ => (Window::Always, 0),
    };
    *rest = &rest[taken..];
    Ok(window)
}

/// What is measured of a whole run has no window.
fn refuse_window(measure: Measure, window: Window) -> Result<(), String> {
    let whole = matches!(
        measure,
        Measure::Recovery
            | Measure::Peak
            | Measure::Wasted
            | Measure::Late
            | Measure::Rejected
            | Measure::Waiting
            | Measure::HalfDone
            | Measure::Twice
    );
    if whole && window != Window::Always {
        return Err("this is measured of whole runs; leave the time out".to_owned());
    }
    Ok(())
}

const NONE: Limit = Limit {
    above: false,
    equal: true,
    value: 0.0,
};
const HOW: &str = "write `MEASURE [of NAME] LIMIT [WHEN] [in SHARE of runs]`,
such as `goodput >= 95% within 5s of recovery` or `p99 of shop < 300ms in 95% of runs`
measures: `goodput >= 95%`, `availability >= 99%`, `rejected <= 1%`, `attempts/calls <= 1.1`,
  `p50 < 30ms`, `p99.9 < 1s`, `recovery <= 3s`, `peak of db <= 40`, `wasted <= 5%`,
  `no wasted work`, `no wasted work after deadline`
of sagas: `settled >= 100%`, `completed >= 90%`, `compensated <= 5%`, `refused <= 1%`,
  `waiting <= 0`, `no half-done sagas`, `no work done twice`, `p99 of order < 30s`
when: `before faults`, `during faults`, `within 5s of recovery`, `from 10s to 20s`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_sentences() {
        let check = |text: &str, measure, above, value: f64, window, runs: f64| {
            let found = promise(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.measure, measure, "{text}");
            assert_eq!((found.limit.above, found.window), (above, window), "{text}");
            assert!((found.limit.value - value).abs() < 1e-12, "{text}");
            assert!((found.runs - runs).abs() < 1e-12, "{text}");
        };
        let second = Duration::from_secs(1);
        let after = Window::Recovered(5 * second);
        let text = "goodput >= 95% within 5s of recovery";
        check(text, Measure::Goodput, true, 0.95, after, 1.0);
        check(
            "attempts/calls <= 1.1",
            Measure::Attempts,
            false,
            1.1,
            Window::Always,
            1.0,
        );
        let text = "p99 of shop < 300ms during faults in 95% of runs";
        check(
            text,
            Measure::Quantile(0.99),
            false,
            0.3,
            Window::During,
            0.95,
        );
        assert_eq!(promise(text).unwrap().of.as_deref(), Some("shop"));
        check(
            "no wasted work after deadline",
            Measure::Late,
            false,
            0.0,
            Window::Always,
            1.0,
        );
        check(
            "no wasted work of db",
            Measure::Wasted,
            false,
            0.0,
            Window::Always,
            1.0,
        );
        let text = "no work done twice";
        check(text, Measure::Twice, false, 0.0, Window::Always, 1.0);
        let text = "no half-done sagas in 99% of runs";
        check(text, Measure::HalfDone, false, 0.0, Window::Always, 0.99);
        let text = "completed of order >= 97% during faults";
        check(text, Measure::Completed, true, 0.97, Window::During, 1.0);
        assert_eq!(promise(text).unwrap().of.as_deref(), Some("order"));
        let text = "waiting <= 3";
        check(text, Measure::Waiting, false, 3.0, Window::Always, 1.0);
        let span = Span {
            from: second,
            to: 2 * second,
        };
        let text = "availability > 99% from 1s to 2s";
        check(
            text,
            Measure::Availability,
            true,
            0.99,
            Window::Between(span),
            1.0,
        );
        check(
            "recovery <= 3s",
            Measure::Recovery,
            false,
            3.0,
            Window::Always,
            1.0,
        );
    }

    #[test]
    fn what_is_no_promise_says_how_to_write_one() {
        for (text, part) in [
            ("", "write `MEASURE"),
            ("badput > 1%", "`badput` is not measured"),
            ("goodput 95%", "write `MEASURE"),
            ("goodput => 95%", "`=>` is no limit"),
            ("goodput >= 0.95", "share in percent"),
            ("p99 < 300", "needs a unit"),
            ("goodput >= 95% within 5s", "`within 5s` is not understood"),
            ("goodput >= 95% from 2m to 1m", "`2m` is not before `1m`"),
            ("recovery < 3s during faults", "whole runs"),
            ("goodput >= 95% in 9 of runs", "share in percent"),
            ("goodput >= 95% in 0% of runs", "is no promise"),
            ("goodput > 100%", "write `>= 100%`"),
            ("rejected < 0%", "write `<= 0%`"),
            ("settled > 100%", "write `>= 100%`"),
            ("waiting <= 3 during faults", "whole runs"),
            ("p99 < 0s", "write `<= 0s`"),
        ] {
            let error = promise(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_can_be_measured_is_listed() {
        for measure in [
            "goodput",
            "availability",
            "rejected",
            "attempts/calls",
            "p50",
            "recovery",
            "peak",
            "wasted",
            "settled",
            "completed",
            "compensated",
            "refused",
            "waiting",
        ] {
            assert!(super::measure(measure).is_ok(), "{measure}");
            assert!(HOW.contains(&format!("`{measure} ")), "{measure}");
        }
        assert!(HOW.lines().all(|line| line.len() < 100), "{HOW}");
    }

    #[test]
    fn limits_include_what_they_say() {
        let limit = |text: &str| promise(text).unwrap().limit;
        assert!(limit("goodput >= 95%").holds(0.95) && !limit("goodput > 95%").holds(0.95));
        assert!(limit("p99 <= 1s").holds(1.0) && !limit("p99 < 1s").holds(1.0));
        assert!(limit("no wasted work").holds(0.0) && !limit("no wasted work").holds(0.1));
    }
}
