//! How numbers are written for people.

use std::time::Duration;

/// A share in percent, with as many digits as tell it from 0 % or 100 %: four of what is missing.
pub(crate) fn percent(share: f64) -> String {
    let rest = (share.min(1.0 - share) * 100.0).max(1e-12);
    let decimals = (3.0 - rest.log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{:.decimals$}", share * 100.0);
    if text.contains('.') {
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return format!("{text}%");
    }
    format!("{text}%")
}

/// A time in its two largest units.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1e-3 {
        return format!("{} us", three(seconds * 1e6));
    }
    if seconds < 0.9995 {
        return format!("{} ms", three(seconds * 1e3));
    }
    if seconds < 59.95 {
        return format!("{} s", three(seconds));
    }
    if time >= YEARS {
        return format!("{} years", three(seconds / (365.25 * 86_400.0)));
    }
    let whole = seconds.round() as u64;
    let (days, hours) = (whole / 86_400, whole % 86_400 / 3600);
    let (minutes, seconds) = (whole % 3600 / 60, whole % 60);
    let [(large, of), (small, part)] = match (days, hours) {
        (0, 0) => [(minutes, "m"), (seconds, "s")],
        (0, _) => [(hours, "h"), (minutes, "m")],
        _ => [(days, "d"), (hours, "h")],
    };
    if small == 0 {
        format!("{large}{of}")
    } else {
        format!("{large}{of} {small}{part}")
    }
}

/// A number with three digits, in thousands apart if it is large.
pub(crate) fn three(number: f64) -> String {
    if number.abs() >= 999.5 {
        if number.abs() >= 1e15 {
            return format!("{number:.2e}");
        }
        return grouped(number.round() as i64);
    }
    let digits = number.abs().max(1e-12).log10().floor();
    let decimals = (2.0 - digits).clamp(0.0, 12.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 {
        text.insert(0, '-');
    }
    text
}

/// From two years on, days say little.
const YEARS: Duration = Duration::from_secs(2 * 366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_digits_that_matter() {
        for (share, text) in [
            (1.0 - 1.0081e-4, "99.98992%"),
            (1.0 - 1e-6, "99.9999%"),
            (0.999f64.powi(5), "99.501%"),
            (0.5, "50%"),
            (1.0, "100%"),
            (0.0, "0%"),
            (0.001, "0.1%"),
            (1.44e-2, "1.44%"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
    }

    #[test]
    fn times_have_their_two_largest_units() {
        for (seconds, text) in [
            (0.0, "0 us"),
            (0.0864, "86.4 ms"),
            (2.1224, "2.12 s"),
            (59.97, "1m"),
            (518.4, "8m 38s"),
            (2592.0, "43m 12s"),
            (7200.0, "2h"),
            (90_000.0, "1d 1h"),
            (1e8, "3.17 years"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn numbers_have_three_digits_or_are_whole() {
        for (number, text) in [
            (0.0, "0"),
            (14.4, "14.4"),
            (6.0, "6"),
            (0.123_45, "0.123"),
            (574.13, "574"),
            (12_000_000.0, "12,000,000"),
            (-1500.0, "-1,500"),
        ] {
            assert_eq!(three(number), text);
        }
    }
}
