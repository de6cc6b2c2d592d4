//! The texts of single values: durations, sizes, shares, addresses.
//!
//! A bare number is never guessed to be seconds or bytes: units are part of the value. Everything
//! here is total: any text gives a value or a sentence that says how to write one.

use std::time::Duration;

use outlast_core::ratio::Ratio;

/// `250ms`, `1.5s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let nanos = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "d" => 86400e9,
        "" if number == text && !text.is_empty() => {
            return Err(format!("a duration needs a unit: `{text}s` or `{text}ms`"));
        }
        _ => return Err("write a duration such as `250ms`, `1.5s`, `5m` or `1h`".to_owned()),
    };
    let number = decimal(number).ok_or("write a duration such as `250ms`, `1.5s`, `5m` or `1h`")?;
    let nanos = number * nanos;
    // What is lost above 2^53 ns (104 days) is below a microsecond.
    if nanos > MOST_NANOS {
        return Err("no duration is longer than a year".to_owned());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// `64KiB`, `1MiB`, `10kB`, `512B`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "" if number == text && !text.is_empty() => {
            return Err(format!("a size needs a unit: `{text}KiB` or `{text}B`"));
        }
        _ => return Err("write a size such as `64KiB`, `1MB` or `512B`".to_owned()),
    };
    let number = decimal(number).ok_or("write a size such as `64KiB`, `1MB` or `512B`")?;
    if number * bytes > MOST_BYTES {
        return Err("no size is larger than 1024GiB".to_owned());
    }
    Ok((number * bytes).round() as u64)
}

/// `10%`, `0.5%`.
pub(crate) fn share(text: &str) -> Result<Ratio, String> {
    Ok(Ratio::new(fraction(text)?).expect("a fraction lies between 0 and 1"))
}

/// As [`share`], without rounding to millionths.
pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    let mend = || "write a share in percent, such as `10%`".to_owned();
    let number = text.strip_suffix('%').ok_or_else(mend)?;
    let percent = decimal(number.trim_end()).ok_or_else(mend)?;
    if percent > 100.0 {
        return Err("a share lies between `0%` and `100%`".to_owned());
    }
    Ok(percent / 100.0)
}

/// `300%`, also above all; up to a hundred times.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|number| decimal(number.trim_end()));
    match number {
        Some(percent) if percent <= 10_000.0 => Ok(percent / 100.0),
        _ => Err("write a share in percent, such as `300%`, up to `10000%`".to_owned()),
    }
}

/// `200/s`, `30/m`, `5/h`: so many a second, up to a million.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let seconds = |unit: &str| match unit.trim() {
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let read = text.split_once('/').and_then(|(number, unit)| {
        let number = decimal(&number.trim_end().replace('_', ""))?;
        Some(number / seconds(unit)?)
    });
    match read {
        Some(rate) if rate <= 1e6 => Ok(rate),
        Some(_) => Err("no rate is higher than 1000000/s".to_owned()),
        None => Err("write a rate such as `200/s`, `0.5/s`, `30/m` or `5/h`".to_owned()),
    }
}

/// `p95`, `p99.9`.
pub(crate) fn quantile(text: &str) -> Option<Ratio> {
    let percent = decimal(text.strip_prefix('p')?)?;
    let ratio = Ratio::new(percent / 100.0).ok()?;
    (ratio > Ratio::ZERO && ratio < Ratio::ONE).then_some(ratio)
}

/// `> 500ms`, `< 1%`: whether above, and the threshold's text.
pub(crate) fn limit(text: &str) -> Option<(bool, &str)> {
    let (above, rest) = match text.split_at_checked(1)? {
        (">", rest) => (true, rest),
        ("<", rest) => (false, rest),
        _ => return None,
    };
    Some((above, rest.trim_start()))
}

/// A whole number within bounds.
pub(crate) fn count(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number: Option<u64> = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'_')
        .then(|| text.replace('_', "").parse().ok())
        .flatten();
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

/// `true` or `false`; YAML's other words for them are not taken.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}

/// A number with at most nine digits before and after the point, and nothing else.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| {
        (1..=12).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    text.parse().ok()
}

fn split(text: &str) -> (&str, &str) {
    let at = text
        .find(|character: char| !(character.is_ascii_digit() || character == '.'))
        .unwrap_or(text.len());
    (&text[..at], text[at..].trim_start())
}

/// A year: more is a mistake.
const MOST_NANOS: f64 = 366.0 * 86400e9;
const MOST_BYTES: f64 = 1024.0 * 1024.0 * 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("250ms", Duration::from_millis(250)),
            ("1.5s", Duration::from_millis(1500)),
            ("5m", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3600)),
            ("10 us", Duration::from_micros(10)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        assert_eq!(
            duration("30"),
            Err("a duration needs a unit: `30s` or `30ms`".to_owned())
        );
        for text in [
            "", "s", "-1s", "1e3s", "1..5s", ".5s", "1x", "99999d", "1s 2ms",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_shares_have_units() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1.5MB"), Ok(1_500_000));
        assert!(size("64").is_err() && size("64k").is_err() && size("9999999GB").is_err());
        assert_eq!(share("12.5%"), Ok(Ratio::new(0.125).unwrap()));
        assert_eq!(fraction("99.9999999%"), Ok(0.999_999_999));
        assert!(share("101%").is_err() && share("0.1").is_err() && share("%").is_err());
        assert_eq!(quantile("p99.9"), Some(Ratio::new(0.999).unwrap()));
        assert_eq!(percent("300%"), Ok(3.0));
        assert!(percent("3").is_err() && percent("10001%").is_err());
        assert_eq!(rate("1_200/m"), Ok(20.0));
        assert!(rate("5").is_err() && rate("5/d").is_err() && rate("2000000/s").is_err());
        assert_eq!(limit("> 5ms"), Some((true, "5ms")));
        assert_eq!(limit("<1%"), Some((false, "1%")));
        assert!(limit("5ms").is_none() && limit("").is_none() && limit("ä").is_none());
        assert!(quantile("p100").is_none() && quantile("p0").is_none() && quantile("99").is_none());
        assert_eq!(count("1_000", 1, 2000), Ok(1000));
        assert!(count("0", 1, 5).is_err() && count("0x1", 1, 5).is_err());
    }
}
