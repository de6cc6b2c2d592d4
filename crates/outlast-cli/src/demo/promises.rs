//! What the shop promises its customers, and whether it was kept, on both sides.

use std::time::Duration;

use serde_json::{Value, json};

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
    promise: &'static Promise,
    protected: Fared,
    bare: Fared,
}

/// Judges a day of this length.
pub(crate) fn judge(protected: &[Sample], bare: &[Sample], day: Duration) -> Vec<Verdict> {
    let fared = |promise: &Promise, samples: &[Sample]| {
        let meant = samples.iter().filter(|sample| {
            let chapter = Chapter::at(sample.came, day);
            sample.action == promise.action && promise.chapter.is_none_or(|only| only == chapter)
        });
        Fared::of(meant)
    };
    let verdict = |promise: &'static Promise| Verdict {
        protected: fared(promise, protected),
        bare: fared(promise, bare),
        promise,
    };
    PROMISES.iter().map(verdict).collect()
}

impl Verdict {
    pub(crate) fn is_kept(&self) -> bool {
        self.promise.demand.is_met(self.protected)
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let word = |kept| if kept { "kept  " } else { "BROKEN" };
        let demand = &self.promise.demand;
        format!(
            "{} {:<48} {:<21} {:>21}   {} {:>21}",
            word(self.is_kept()),
            self.promise.text,
            demand.told(),
            shown(self.protected),
            word(demand.is_met(self.bare)),
            shown(self.bare),
        )
    }

    pub(crate) fn as_json(&self) -> Value {
        let fared = |fared: Fared| {
            json!({
                "customers": fared.count,
                "success": fared.success,
                "p95_ms": fared.p95.as_secs_f64() * 1e3,
                "p99_ms": fared.p99.as_secs_f64() * 1e3,
            })
        };
        json!({
            "promise": self.promise.text,
            "demand": self.promise.demand.told(),
            "kept": self.is_kept(),
            "protected": fared(self.protected),
            "unprotected": fared(self.bare),
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

fn shown(fared: Fared) -> String {
    format!(
        "{:.1} %, p95 {} ms",
        fared.success * 100.0,
        fared.p95.as_millis()
    )
}

impl Demand {
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
        assert_eq!((down.protected.count, down.protected.success), (14, 1.0));
        assert_eq!(down.bare.success, 0.0);
        let swapped = judge(&bad, &good, day);
        assert!(!swapped[2].is_kept() && !swapped[0].is_kept() && swapped[7].is_kept());
        assert!(
            !judge(&[], &[], day)[0].is_kept(),
            "nobody came, so nothing is known"
        );
    }
}
