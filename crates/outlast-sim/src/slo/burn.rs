//! When a budget is spent so fast that somebody must know.
//!
//! Each alert looks at a long window, which says that it matters, and at a short one, which says
//! that it still goes on (Google, The Site Reliability Workbook, chapter 5).

use std::time::Duration;

use super::{Budget, Share, SloError, part};

/// What happens when an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody is woken.
    Page,
    /// Somebody looks at it in working hours.
    Ticket,
}

/// Fires when in both windows errors burn the budget at least this fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alert {
    /// What it is worth.
    pub urgency: Urgency,
    /// The window that says that it matters.
    pub long: Duration,
    /// A twelfth of it: the window that says that it goes on.
    pub short: Duration,
    /// The share of the budget that is spent when it fires.
    pub share: f64,
    /// How fast that is: `share * window / long`. 1 spends the budget just within its window.
    pub burn: f64,
    /// From which ratio of errors on it fires: `burn * (1 - target)`. Above 1 it never does.
    pub errors: f64,
}

/// The three alerts of the workbook for a budget: a page at 2 % of it within an hour and at 5 %
/// within six, a ticket at 10 % within three days. Over 30 days that is 14.4, 6 and 1 times as fast
/// as allowed; for other windows the shares stay and the factors follow.
///
/// # Errors
/// If the window is shorter than a week: three days would be most of it.
pub fn alerts(budget: &Budget) -> Result<[Alert; 3], SloError> {
    if budget.window() < 7 * DAY {
        return Err(SloError("alerts over three days need a window of a week"));
    }
    let alert = |(urgency, long, share): (Urgency, Duration, f64)| {
        let burn = share * budget.window().as_secs_f64() / long.as_secs_f64();
        Alert {
            urgency,
            long,
            short: long / 12,
            share,
            burn,
            errors: burn * budget.share(),
        }
    };
    Ok(WORKBOOK.map(alert))
}

impl Alert {
    /// How long a constant ratio of errors, after none before, takes until it fires:
    /// `long * burn * (1 - target) / errors`; never if that is longer than the window.
    pub fn fires_after(&self, errors: Share) -> Option<Duration> {
        (errors.0 > 0.0 && errors.0 >= self.errors).then(|| part(self.long, self.errors / errors.0))
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const WORKBOOK: [(Urgency, Duration, f64); 3] = [
    (Urgency::Page, HOUR, 0.02),
    (Urgency::Page, Duration::from_secs(6 * 3600), 0.05),
    (Urgency::Ticket, Duration::from_secs(3 * 86_400), 0.1),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: f64, days: u32) -> [Alert; 3] {
        let budget = Budget::new(Share::new(target).unwrap(), days * DAY).unwrap();
        alerts(&budget).unwrap()
    }

    #[test]
    fn the_factors_are_those_of_the_workbook_and_follow_the_window() {
        let check = |days, expected: [f64; 3]| {
            for (alert, burn) in of(0.999, days).iter().zip(expected) {
                assert!((alert.burn - burn).abs() < 1e-9, "{days} {alert:?}");
            }
        };
        check(30, [14.4, 6.0, 1.0]);
        check(28, [13.44, 5.6, 28.0 / 30.0]);
        check(7, [3.36, 1.4, 7.0 / 30.0]);
        let shorts = of(0.999, 30).map(|alert| alert.short.as_secs() / 60);
        assert_eq!(shorts, [5, 30, 360]);
        let day = Budget::new(Share::NONE, DAY).unwrap();
        assert!(alerts(&day).is_err());
    }

    #[test]
    fn an_alert_that_needs_more_errors_than_all_never_fires() {
        let all = Share::new(1.0).unwrap();
        let [fast, ..] = of(0.9, 30);
        assert!(fast.errors > 1.0);
        assert_eq!(fast.fires_after(all), None);
        let [fast, slow, ticket] = of(0.999, 30);
        let few = Share::new(0.007).unwrap();
        assert_eq!(fast.fires_after(few), None);
        let minutes = slow.fires_after(few).unwrap().as_secs_f64() / 60.0;
        assert!((minutes - 360.0 * 6.0 / 7.0).abs() < 1e-6, "{minutes}");
        assert_eq!(ticket.fires_after(Share::NONE), None);
    }
}
