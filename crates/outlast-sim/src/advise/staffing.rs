//! How many seats an offered load needs.

/// The share of arrivals that find `seats` seats taken, for a mean of `load` at once without a
/// bound, if nobody waits (Erlang, 1917). It holds for any law of durations.
///
/// ```
/// // Ten seats for a load of eight: one in eight finds none.
/// assert!((outlast_sim::advise::erlang_b(10, 8.0) - 0.12166).abs() < 1e-5);
/// ```
pub fn erlang_b(seats: u64, load: f64) -> f64 {
    (1..=seats).fold(1.0, |busy, seat| load * busy / (seat as f64 + load * busy))
}

/// The least number of seats, from square-root staffing on, at which at most a share `refused` of
/// the arrivals finds none.
pub(super) fn seats(load: f64, refused: f64) -> u64 {
    let staffed = libm::ceil(load + SPREADS * libm::sqrt(load)).max(1.0) as u64;
    // Blocking falls with every seat, and a seat more costs one step of the recursion.
    let mut busy = erlang_b(staffed, load);
    let mut seats = staffed;
    while busy > refused {
        seats += 1;
        busy = load * busy / (seats as f64 + load * busy);
    }
    seats
}

/// Arrivals at random spread by the square root of their mean; two of that are rarely exceeded.
const SPREADS: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocking_is_that_of_the_tables() {
        for (seats, load, expected) in [
            (1, 1.0, 0.5),
            (2, 1.0, 0.2),
            (10, 8.0, 0.121_661),
            (5, 3.0, 0.110_054),
            (0, 3.0, 1.0),
        ] {
            let found = erlang_b(seats, load);
            assert!((found - expected).abs() < 1e-6, "{seats} {load}: {found}");
        }
    }

    #[test]
    fn seats_are_enough_and_not_one_too_many() {
        // 500 a second of 30 ms each.
        assert_eq!(seats(15.0, 0.02), 23);
        for load in [0.01, 0.5, 3.0, 15.0, 200.0, 10_000.0] {
            for refused in [0.1, 0.02, 1e-4] {
                let found = seats(load, refused);
                assert!(erlang_b(found, load) <= refused);
                let fewer = found - 1;
                let staffed = (load + 2.0 * load.sqrt()).ceil() as u64;
                assert!(fewer < staffed.max(1) || erlang_b(fewer, load) > refused);
            }
        }
    }
}
