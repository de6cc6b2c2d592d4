//! What can be tuned: settings with numbers, where they stand in a file, and how they are written.

use outlast_config::edit::File;
use outlast_sim::tune::Range;

use crate::commands::Added;

/// A setting of an upstream.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The upstream.
    pub(super) upstream: String,
    /// Its keys, with points between them, as the file would have them in the long form.
    pub(super) name: &'static str,
    /// Where it is set: where a policy is off, that is the policy itself.
    key: &'static str,
    unit: Unit,
    /// As it is written in the file; or nothing, and the default holds.
    pub(super) written: Option<String>,
    /// What holds now, written or not; nothing if it is off.
    pub(super) holds: Option<String>,
    /// What is tried.
    pub(super) range: Range,
    bounds: (f64, f64),
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// In seconds.
    Time,
    Share,
    Count,
    Factor,
    /// What is beyond a quantile: 0.05 for `p95`.
    Tail,
}

/// What is known of a setting before a file is.
struct Known {
    name: &'static str,
    unit: Unit,
    /// What is sensible to try, within what the format allows.
    bounds: (f64, f64),
    /// Whether it matters in an upstream.
    matters: fn(&Section<'_>) -> bool,
}

/// The policies of an upstream in a file.
struct Section<'a> {
    file: &'a File,
    upstream: &'a str,
    added: &'a [Added],
}

impl Section<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        self.file.value(&self.path(key))
    }

    fn has(&self, key: &str) -> bool {
        self.file.has(&self.path(key))
    }

    fn path<'s>(&'s self, key: &'s str) -> Vec<&'s str> {
        path(self.upstream, key)
    }

    /// Whether a policy is there, or is to be added.
    fn is_on(&self, policy: &str, added: Option<Added>) -> bool {
        let is_off = self.value(policy) == Some("off");
        let is_watching = self.value(&format!("{policy}.enforce")) == Some("false");
        let is_there = self.has(policy) && !is_off;
        (is_there && !is_watching) || (!is_there && self.adds(added))
    }

    fn adds(&self, added: Option<Added>) -> bool {
        added.is_some_and(|added| self.added.contains(&added))
    }

    /// Whether there can be attempts besides the first one.
    fn repeats(&self) -> bool {
        ["retry", "hedge", "failover"]
            .iter()
            .any(|policy| self.is_on(policy, None))
    }

    fn budget(&self) -> bool {
        let is_default = !self.has("budget");
        self.repeats() && (is_default || self.is_on("budget", Some(Added::Budget)))
    }

    fn breaker(&self) -> bool {
        self.is_on("breaker", Some(Added::Breaker))
    }

    fn has_breaker_rule(&self) -> bool {
        ["breaker.failures", "breaker.ratio", "breaker.slow"]
            .iter()
            .any(|rule| self.has(rule))
    }

    fn bulkhead(&self) -> bool {
        self.is_on("bulkhead", Some(Added::Bulkhead))
    }

    fn shed(&self) -> bool {
        self.is_on("shed", Some(Added::Shed))
    }
}

/// The settings of these upstreams that can be tuned, each tried within `factor` times what it is.
pub(super) fn settings(
    file: &File,
    upstreams: &[String],
    added: &[Added],
    factor: f64,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for upstream in upstreams {
        let section = Section {
            file,
            upstream,
            added,
        };
        let known = KNOWN.iter().filter(|known| (known.matters)(&section));
        settings.extend(known.filter_map(|known| known.setting(&section, factor)));
    }
    settings
}

impl Known {
    /// As it is in an upstream; `None` if it is no number there.
    fn setting(&self, section: &Section<'_>, factor: f64) -> Option<Setting> {
        let written = section.value(self.name).map(str::to_owned);
        let (value, unit) = match &written {
            Some(text) => read(self.unit, text)?,
            None => self.default()?,
        };
        let policy = self.name.split('.').next().unwrap_or(self.name);
        let is_off = section.value(policy) == Some("off");
        let is_default = DEFAULTS.contains(&policy) || section.has(policy);
        let holds = match &written {
            Some(text) => Some(text.clone()),
            None if is_off || !is_default => None,
            None => Some(write(unit, value, 3)),
        };
        let bounds = match unit {
            Unit::Tail => TAILS,
            _ => self.bounds,
        };
        // What is beyond what is sensible stays within reach: it is there already.
        let bounds = (bounds.0.min(value), bounds.1.max(value));
        // From 0, a factor leads nowhere.
        let middle = if value == 0.0 { FROM_ZERO } else { value };
        Some(Setting {
            upstream: section.upstream.to_owned(),
            name: self.name,
            key: if is_off && self.name == "budget.ratio" {
                policy
            } else {
                self.name
            },
            unit,
            written,
            holds,
            range: Range::around(middle, factor, bounds),
            bounds,
        })
    }
}

impl Known {
    /// What holds if it is left out, or, of what may not be left out, what it is tried around.
    fn default(&self) -> Option<(f64, Unit)> {
        let keys: Vec<_> = self.name.split('.').collect();
        match outlast_config::upstream_default(&keys) {
            Some(text) => read(self.unit, text),
            None => (self.name == "bulkhead.concurrency").then_some((SEATS, self.unit)),
        }
    }
}

impl Setting {
    /// The keys that lead to it.
    pub(super) fn path(&self) -> Vec<&str> {
        path(&self.upstream, self.key)
    }

    /// What is at a place between 0 and 1 of its range, as it is written.
    pub(super) fn at(&self, place: f64) -> String {
        write(self.unit, self.range.at(place), 2)
    }

    /// What it is now, for people; in brackets if that is the default.
    pub(super) fn now(&self) -> String {
        match (&self.written, &self.holds) {
            (Some(written), _) => written.clone(),
            (None, Some(default)) => format!("({default})"),
            (None, None) => "off".to_owned(),
        }
    }

    /// A value, if it is another one than that which is written.
    pub(super) fn changed(&self, value: String) -> Option<String> {
        (self.written.as_ref() != Some(&value)).then_some(value)
    }

    /// From where to where it is tried.
    pub(super) fn tried(&self) -> String {
        let (least, most) = (self.range.least(), self.range.most());
        let (least, most) = match self.unit {
            Unit::Tail => (most, least),
            _ => (least, most),
        };
        format!(
            "{} to {}",
            write(self.unit, least, 2),
            write(self.unit, most, 2)
        )
    }

    /// A value that is so many times another one, if that is another one, too; a whole number moves
    /// by at least one.
    pub(super) fn times(&self, value: &str, times: f64) -> Option<String> {
        let (from, _) = read(self.unit, value)?;
        let mut to = from * times;
        if self.unit == Unit::Count && to.round() == from {
            to = if times > 1.0 { from + 1.0 } else { from - 1.0 };
        }
        let (least, most) = self.bounds;
        let written = write(self.unit, to.clamp(least, most), 3);
        (read(self.unit, &written)?.0 != from).then_some(written)
    }
}

fn path<'a>(upstream: &'a str, key: &'a str) -> Vec<&'a str> {
    ["upstreams", upstream]
        .into_iter()
        .chain(key.split('.'))
        .collect()
}

/// A text as a number; a time may be a quantile as well.
fn read(unit: Unit, text: &str) -> Option<(f64, Unit)> {
    let value = match unit {
        Unit::Time | Unit::Tail => match text.strip_prefix('p') {
            Some(percent) => return Some((1.0 - percent.parse::<f64>().ok()? / 100.0, Unit::Tail)),
            None => outlast_config::duration(text).ok()?.as_secs_f64(),
        },
        Unit::Share => outlast_config::share(text).ok()?,
        Unit::Count | Unit::Factor => text.replace('_', "").parse().ok()?,
    };
    Some((value, unit))
}

/// A number with so many digits that count.
fn write(unit: Unit, value: f64, digits: usize) -> String {
    let rounded = |value: f64| {
        let text = format!("{value:.*e}", digits - 1);
        text.parse::<f64>().expect("a number that was just written")
    };
    let plain = |value: f64| {
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match unit {
        Unit::Count if value < 100.0 => format!("{:.0}", value.round()),
        Unit::Count => plain(rounded(value.round())),
        Unit::Factor => plain(rounded(value)),
        Unit::Share => format!("{}%", plain(rounded(value * 100.0))),
        Unit::Tail => format!("p{}", plain(100.0 - rounded(value * 100.0))),
        Unit::Time => match rounded(value) {
            value if value < 1e-3 => format!("{}us", plain(rounded(value * 1e6))),
            value if value < 1.0 => format!("{}ms", plain(rounded(value * 1e3))),
            value => format!("{}s", plain(value)),
        },
    }
}

const KNOWN: [Known; 20] = [
    known("timeout", Unit::Time, (0.001, 300.0), |section| {
        section.value("enforce_deadline") != Some("false")
    }),
    known("retry.attempts", Unit::Count, (1.0, 10.0), |section| {
        section.is_on("retry", None)
    }),
    known("retry.backoff.base", Unit::Time, (0.001, 60.0), |section| {
        section.is_on("retry", None)
    }),
    known("retry.backoff.max", Unit::Time, (0.001, 300.0), |section| {
        // Waits that do not grow need no bound.
        let grows = section.value("retry.backoff.kind") != Some("constant")
            && section.value("retry.backoff").is_none();
        section.is_on("retry", None) && grows
    }),
    known("hedge.after", Unit::Time, (0.001, 60.0), |section| {
        section.is_on("hedge", None)
    }),
    known("budget.ratio", Unit::Share, (0.001, 1.0), |section| {
        section.budget()
    }),
    known("budget.reserve", Unit::Count, (0.0, 10_000.0), |section| {
        section.budget()
    }),
    known(
        "breaker.consecutive",
        Unit::Count,
        (1.0, 1000.0),
        |section| {
            let is_rule = section.has("breaker.consecutive") || !section.has_breaker_rule();
            section.breaker() && is_rule
        },
    ),
    known(
        "breaker.failures",
        Unit::Count,
        (1.0, 10_000.0),
        |section| section.breaker() && section.has("breaker.failures"),
    ),
    known("breaker.ratio", Unit::Share, (0.01, 1.0), |section| {
        section.breaker() && section.has("breaker.ratio")
    }),
    known(
        "breaker.min_calls",
        Unit::Count,
        (1.0, 10_000.0),
        |section| {
            let needs_it = section.has("breaker.ratio") || section.has("breaker.slow");
            section.breaker() && needs_it
        },
    ),
    known("breaker.cooldown", Unit::Time, (0.01, 600.0), |section| {
        let is_single = section.value("breaker.cooldown").is_some();
        section.breaker() && (is_single || !section.has("breaker.cooldown"))
    }),
    known(
        "breaker.cooldown.base",
        Unit::Time,
        (0.01, 600.0),
        |section| {
            let is_single = section.value("breaker.cooldown").is_some();
            section.breaker() && !is_single && section.has("breaker.cooldown")
        },
    ),
    known(
        "bulkhead.concurrency",
        Unit::Count,
        (1.0, 100_000.0),
        |section| section.bulkhead(),
    ),
    known("bulkhead.queue", Unit::Count, (0.0, 100_000.0), |section| {
        section.bulkhead()
    }),
    known(
        "bulkhead.queue_timeout",
        Unit::Time,
        (0.001, 60.0),
        |section| section.bulkhead(),
    ),
    known("shed.limit", Unit::Count, (1.0, 100_000.0), |section| {
        section.shed() && section.value("shed.limit").is_some()
    }),
    known("shed.queue", Unit::Count, (0.0, 100_000.0), |section| {
        section.shed()
    }),
    known("throttle.k", Unit::Factor, (1.1, 100.0), |section| {
        section.is_on("throttle", None)
    }),
    known("shed.target", Unit::Time, (0.0005, 10.0), |section| {
        section.shed()
    }),
];

const fn known(
    name: &'static str,
    unit: Unit,
    bounds: (f64, f64),
    matters: fn(&Section<'_>) -> bool,
) -> Known {
    Known {
        name,
        unit,
        bounds,
        matters,
    }
}

/// Policies that are on if a file says nothing of them.
const DEFAULTS: [&str; 2] = ["timeout", "budget"];
/// Where seats are begun with in an upstream that gets a bulkhead.
const SEATS: f64 = 20.0;
/// What is 0 is tried around this.
const FROM_ZERO: f64 = 10.0;
/// From `p50` to `p99.9`.
const TAILS: (f64, f64) = (0.001, 0.5);

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &str, added: &[Added]) -> Vec<Setting> {
        let text = format!("upstreams:\n  a:\n    endpoints: [http://a:1]\n{lines}");
        let file = File::parse("file.yaml", &text).unwrap();
        settings(&file, &["a".to_owned()], added, 5.0)
    }

    /// Name, now, from where to where.
    fn check(lines: &str, added: &[Added], expected: &[[&str; 3]]) {
        let told: Vec<_> = all(lines, added)
            .iter()
            .map(|setting| [setting.name.to_owned(), setting.now(), setting.tried()])
            .collect();
        assert_eq!(told, expected, "{lines}");
    }

    #[test]
    fn what_the_file_has_is_tuned() {
        check("", &[], &[["timeout", "(30s)", "6s to 150s"]]);
        check(
            "    timeout: 800ms\n    retry: { attempts: 4, backoff: 1s }",
            &[],
            &[
                ["timeout", "800ms", "160ms to 4s"],
                ["retry.attempts", "4", "1 to 10"],
                ["retry.backoff.base", "1s", "200ms to 5s"],
                ["budget.ratio", "(10%)", "2% to 50%"],
                ["budget.reserve", "(3)", "0 to 19"],
            ],
        );
        check(
            "    enforce_deadline: false\n    hedge: { after: p95 }\n    budget: 50%",
            &[],
            &[
                ["hedge.after", "p95", "p75 to p99"],
                ["budget.ratio", "50%", "10% to 100%"],
                ["budget.reserve", "(3)", "0 to 19"],
            ],
        );
        check(
            "    timeout: 1s\n    breaker: { ratio: 50%, cooldown: { base: 2s } }\n    bulkhead: 8\n    \
             shed: on\n    throttle: { k: 1.5, enforce: false }",
            &[],
            &[
                ["timeout", "1s", "200ms to 5s"],
                ["breaker.ratio", "50%", "10% to 100%"],
                ["breaker.min_calls", "(20)", "4 to 100"],
                ["breaker.cooldown.base", "2s", "400ms to 10s"],
                ["bulkhead.concurrency", "8", "2 to 40"],
                ["bulkhead.queue", "(0)", "1 to 54"],
                ["bulkhead.queue_timeout", "(500ms)", "100ms to 2.5s"],
                ["shed.queue", "(100)", "19 to 500"],
                ["shed.target", "(5ms)", "1ms to 25ms"],
            ],
        );
    }

    #[test]
    fn defaults_are_those_of_the_file() {
        check(
            "    timeout: 1s\n    breaker: on",
            &[],
            &[
                ["timeout", "1s", "200ms to 5s"],
                ["breaker.consecutive", "(5)", "1 to 25"],
                ["breaker.cooldown", "(2s)", "400ms to 10s"],
            ],
        );
        for known in &KNOWN {
            let is_rule = [
                "hedge.after",
                "breaker.failures",
                "breaker.ratio",
                "shed.limit",
            ];
            let has_default = known.default().is_some();
            assert_ne!(has_default, is_rule.contains(&known.name), "{}", known.name);
        }
    }

    #[test]
    fn what_it_lacks_is_tuned_if_it_is_added() {
        let lines = "    timeout: 1s\n    retry: { attempts: 3, enforce: false }\n    budget: off";
        check(lines, &[], &[["timeout", "1s", "200ms to 5s"]]);
        let lines = "    timeout: 1s\n    hedge: { after: 1s }\n    budget: off";
        let added = [Added::Budget, Added::Breaker];
        check(
            lines,
            &added,
            &[
                ["timeout", "1s", "200ms to 5s"],
                ["hedge.after", "1s", "200ms to 5s"],
                ["budget.ratio", "off", "2% to 50%"],
                ["budget.reserve", "off", "0 to 19"],
                ["breaker.consecutive", "off", "1 to 25"],
                ["breaker.cooldown", "off", "400ms to 10s"],
            ],
        );
        let paths: Vec<_> = all(lines, &added)
            .iter()
            .map(|one| one.path().join("."))
            .collect();
        assert_eq!(
            paths[2..4],
            ["upstreams.a.budget", "upstreams.a.budget.reserve"]
        );
    }

    #[test]
    fn a_fifth_more_is_another_value() {
        let check = |lines: &str, value: &str, expected: [Option<&str>; 2]| {
            let settings = all(lines, &[]);
            let setting = settings.last().unwrap();
            let told = [0.8, 1.2].map(|times| setting.times(value, times));
            assert_eq!(
                told,
                expected.map(|text| text.map(str::to_owned)),
                "{value}"
            );
        };
        check("", "1.1s", [Some("880ms"), Some("1.32s")]);
        check(
            "    bulkhead: { concurrency: 3, queue: 4 }\n    hedge: { after: p95 }\n    shed: { limit: 2 }",
            "5ms",
            [Some("4ms"), Some("6ms")],
        );
        let reserve = "    retry: { attempts: 2 }";
        check(reserve, "2", [Some("1"), Some("3")]);
        check(reserve, "0", [None, Some("1")]);
        check(reserve, "120", [Some("96"), Some("144")]);
        let settings = all("    hedge: { after: p95 }", &[]);
        assert_eq!(settings[1].times("p95", 1.2).as_deref(), Some("p94"));
    }
}
