//! What time it is for sagas and queues that run.

use tokio::time::Instant;

use super::{Duration, Stamp};

/// Wall time that does not jump: what it was at the start, and how much has passed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: u64,
    start: Instant,
}

impl Clock {
    pub(crate) fn new(now: Stamp) -> Clock {
        Clock {
            wall: now.0,
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Stamp {
        Stamp(self.wall).after(self.start.elapsed())
    }

    /// When it is that time, or in a day if that is sooner: timers have an end.
    pub(crate) fn at(&self, stamp: Stamp) -> Instant {
        let latest = self.start.elapsed() + DAY;
        self.start + stamp.since(Stamp(self.wall)).min(latest)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    /// A timer that lies behind would come at once, and again, and again.
    #[tokio::test(start_paused = true)]
    async fn timers_are_as_far_away_on_the_tenth_day_as_on_the_first() {
        let clock = Clock::new(Stamp(1_800_000_000_000));
        for day in 0..10 {
            let (now, away) = (clock.now(), |wait| {
                clock.at(clock.now().after(wait)) - Instant::now()
            });
            let minute = Duration::from_secs(60);
            assert_eq!(away(minute), minute, "on day {day}");
            assert_eq!(
                away(7 * DAY),
                DAY,
                "on day {day}: it is looked at again then"
            );
            assert!(clock.at(Stamp(now.0 - 1)) <= Instant::now() || day == 0);
            tokio::time::advance(DAY).await;
        }
    }
}
