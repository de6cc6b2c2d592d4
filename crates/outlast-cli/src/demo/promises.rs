//! What the shop promises its customers, and whether it was kept, on both sides.

use std::time::Duration;

use serde_json::{Value, json};

use super::books::Tally;
use super::load::{Action, Fared, Sample};
use super::story::Chapter;

/// A promise: which customers it is made to, and what they are promised.
struct Promise {
    text: &'static str,
    action: Action,
    /// Those who come in this chapter; in all, if there is none.
    chapter: Option<Chapter>,
    demand: Demand,
}

enum Demand {
    /// At least this share is served.
    Success(f64),
    /// At least this share is served, and 95 of 100 within this time.
    Within(f64, Duration),
}

const PROMISES: [Promise; 8] = [
    promise(
        "checkout works all day",
        Action::Checkout,
        None,
        Demand::Success(0.99),
    ),
    promise(
        "stock answers all day",
        Action::Stock,
        None,
        Demand::Success(0.99),
    ),
    promise(
        "checkout works while a payment provider is down",
        Action::Checkout,
        Some(Chapter::PaymentDown),
        Demand::Within(0.99, Duration::from_millis(500)),
    ),
    promise(
        "stock is quick while a replica is slow",
        Action::Stock,
        Some(Chapter::ReplicaSlow),
        Demand::Within(0.99, Duration::from_millis(400)),
    ),
    promise(
        "checkout works while shipping hangs",
        Action::Checkout,
        Some(Chapter::ShippingHangs),
        Demand::Within(0.98, Duration::from_millis(800)),
    ),
    promise(
        "a missing receipt fails no order",
        Action::Checkout,
        Some(Chapter::NotificationDead),
        Demand::Success(0.99),
    ),
    promise(
        "three times the load is carried",
        Action::Checkout,
        Some(Chapter::Burst),
        Demand::Success(0.98),
    ),
    promise(
        "when the trouble is over, all is well at once",
        Action::Checkout,
        Some(Chapter::Recovery),
        Demand::Within(0.99, Duration::from_millis(500)),
    ),
];

const fn promise(
    text: &'static str,
    action: Action,
    chapter: Option<Chapter>,
    demand: Demand,
) -> Promise {
    Promise {
        text,
        action,
        chapter,
        demand,
    }
}

/// A promise with what became of it.
pub(crate) struct Verdict {
    text: &'static str,
    demand: String,
    protected: Side,
    bare: Side,
}

/// How it went at one shop.
struct Side {
    kept: bool,
    told: String,
    measured: Value,
}

/// Judges a day of this length by what customers got.
pub(crate) fn judge(protected: &[Sample], bare: &[Sample], day: Duration) -> Vec<Verdict> {
    let side = |promise: &Promise, samples: &[Sample]| {
        let meant = samples.iter().filter(|sample| {
            let chapter = Chapter::at(sample.came, day);
            sample.action == promise.action && promise.chapter.is_none_or(|only| only == chapter)
        });
        promise.demand.side(Fared::of(meant))
    };
    let verdict = |promise: &'static Promise| Verdict {
        text: promise.text,
        demand: promise.demand.told(),
        protected: side(promise, protected),
        bare: side(promise, bare),
    };
    PROMISES.iter().map(verdict).collect()
}

/// Judges the orders by what the ledgers say.
pub(crate) fn judge_orders(tallies: &[Tally; 2]) -> [Verdict; 2] {
    let ends = |tally: &Tally| {
        let ended = tally.placed.saturating_sub(tally.astray);
        (tally.astray, format!("{ended} of {}", tally.placed))
    };
    let money = |tally: &Tally| {
        let wrong = tally.charged_in_vain + tally.charged_twice;
        (wrong, format!("{wrong} of {}", tally.placed))
    };
    let side = |tally: &Tally, (wrong, told): (usize, String)| Side {
        kept: tally.placed > 0 && wrong == 0,
        told,
        measured: tally.as_json(),
    };
    let [protected, bare] = tallies;
    [
        Verdict {
            text: "an order ends done or undone, never half done",
            demand: "all, by the ledgers".to_owned(),
            protected: side(protected, ends(protected)),
            bare: side(bare, ends(bare)),
        },
        Verdict {
            text: "nobody pays twice, or for nothing",
            demand: "0, by the ledgers".to_owned(),
            protected: side(protected, money(protected)),
            bare: side(bare, money(bare)),
        },
    ]
}

impl Verdict {
    pub(crate) fn is_kept(&self) -> bool {
        self.protected.kept
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let word = |kept| if kept { "kept  " } else { "BROKEN" };
        format!(
            "{} {:<48} {:<21} {:>21}   {} {:>21}",
            word(self.protected.kept),
            self.text,
            self.demand,
            self.protected.told,
            word(self.bare.kept),
            self.bare.told,
        )
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "promise": self.text,
            "demand": self.demand,
            "kept": self.protected.kept,
            "protected": self.protected.measured,
            "unprotected": self.bare.measured,
        })
    }
}

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "       {:<48} {:<21} {:>21}   {:>28}",
        "promise", "", "with Outlast", "without"
    )
}

impl Demand {
    fn side(&self, fared: Fared) -> Side {
        Side {
            kept: self.is_met(fared),
            told: format!(
                "{:.1} %, p95 {} ms",
                fared.success * 100.0,
                fared.p95.as_millis()
            ),
            measured: json!({
                "customers": fared.count,
                "success": fared.success,
                "p95_ms": fared.p95.as_secs_f64() * 1e3,
                "p99_ms": fared.p99.as_secs_f64() * 1e3,
            }),
        }
    }

    fn is_met(&self, fared: Fared) -> bool {
        fared.count > 0
            && match *self {
                Demand::Success(share) => fared.success >= share,
                Demand::Within(share, time) => fared.success >= share && fared.p95 <= time,
            }
    }

    fn told(&self) -> String {
        match *self {
            Demand::Success(share) => format!(">= {:.0} %", share * 100.0),
            Demand::Within(share, time) => {
                format!(">= {:.0} %, p95 {} ms", share * 100.0, time.as_millis())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_judged_by_those_they_were_made_to() {
        let day = Duration::from_secs(100);
        let sample = |second: u64, ok: bool| Sample {
            action: Action::Checkout,
            came: Duration::from_secs(second),
            took: Duration::from_millis(20),
            ok,
        };
        let good: Vec<_> = (0..100).map(|second| sample(second, true)).collect();
        let bad: Vec<_> = (0..100)
            .map(|second| sample(second, !(12..26).contains(&second)))
            .collect();
        let verdicts = judge(&good, &bad, day);
        let down = &verdicts[2];
        assert!(down.is_kept());
        let protected = &down.protected.measured;
        assert_eq!(
            (&protected["customers"], &protected["success"]),
            (&json!(14), &json!(1.0))
        );
        assert_eq!(down.bare.measured["success"], 0.0);
        let swapped = judge(&bad, &good, day);
        assert!(!swapped[2].is_kept() && !swapped[0].is_kept() && swapped[7].is_kept());
        assert!(
            !judge(&[], &[], day)[0].is_kept(),
            "nobody came, so nothing is known"
        );
    }

    #[test]
    fn orders_are_judged_by_the_ledgers() {
        let good = Tally {
            placed: 3,
            completed: 2,
            compensated: 1,
            done: 2,
            undone: 1,
            ..Tally::default()
        };
        let kept = |tally: Tally| judge_orders(&[tally, good]).map(|verdict| verdict.is_kept());
        assert_eq!(kept(good), [true, true]);
        let astray = Tally { astray: 1, ..good };
        assert_eq!(kept(astray), [false, true]);
        let in_vain = Tally {
            charged_in_vain: 1,
            ..astray
        };
        assert_eq!(kept(in_vain), [false, false]);
        let twice = Tally {
            charged_twice: 1,
            ..good
        };
        assert_eq!(kept(twice), [true, false]);
        assert_eq!(kept(Tally::default()), [false, false], "nobody ordered");
    }
}
