//! Measurements in files: lines of two values, with a comma between. Empty lines and those with `#`
//! are skipped.

use std::path::Path;
use std::time::Duration;

use crate::value;

/// A histogram: upper bounds, which rise, and counts.
pub(super) fn histogram(path: &Path) -> Result<Vec<(Duration, u64)>, String> {
    let counts = lines(path, |bound, count| {
        Ok((
            value::duration(bound)?,
            value::count(count, 0, u64::MAX >> 12)?,
        ))
    })?;
    if counts.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(format!("the bounds of {} do not rise", path.display()));
    }
    if counts.iter().all(|(_, count)| *count == 0) {
        return Err(format!("{} counts nothing", path.display()));
    }
    Ok(counts)
}

/// Load over time: times, which do not fall, and rates.
pub(super) fn load(path: &Path) -> Result<Vec<(Duration, f64)>, String> {
    let points = lines(path, |at, rate| {
        Ok((value::duration(at)?, value::rate(rate)?))
    })?;
    if points.windows(2).any(|pair| pair[0].0 > pair[1].0) {
        return Err(format!("the times of {} go back", path.display()));
    }
    if points.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(points)
}

fn lines<T>(path: &Path, read: impl Fn(&str, &str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let mut values = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if values.len() >= MOST_LINES {
            return Err(format!("{name} has more than {MOST_LINES} lines"));
        }
        let value = match line.split_once(',') {
            Some((one, other)) => read(one.trim(), other.trim()),
            None => Err("there is no comma".to_owned()),
        };
        values.push(value.map_err(|error| format!("{name}:{number}: {error}"))?);
    }
    Ok(values)
}

/// A second each for a day.
const MOST_LINES: usize = 100_000;
