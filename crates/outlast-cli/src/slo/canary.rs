//! How long a canary takes to show what it is.

use std::time::Duration;

use outlast_sim::slo::{Mistakes, Rates, Share, SloError, Sprt};
use serde_json::json;

use crate::picture::{Panel, Picture};
use crate::slo::Answer;
use crate::slo::availability::line;
use crate::slo::questions::Canary;
use crate::slo::texts::{percent, span, three};

pub(crate) fn answer(asked: &Canary) -> Result<Answer, SloError> {
    let rates = Rates {
        good: asked.good,
        bad: asked.bad,
    };
    let mistakes = Mistakes {
        alpha: asked.alpha,
        beta: asked.beta,
    };
    let test = Sprt::new(rates, mistakes)?;
    let takes = |requests: f64| {
        let seconds = requests / asked.rps;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    };
    let (good, bad) = (test.requests(asked.good), test.requests(asked.bad));
    let row = |label: String, requests: f64| {
        let (count, time) = (requests.ceil(), span(takes(requests)));
        vec![label, three(count), time]
    };
    let names = [asked.good, asked.bad].map(|errors| percent(errors.as_f64()));
    Ok(Answer {
        head: ["", "requests", "time"].map(str::to_owned).to_vec(),
        rows: vec![
            row(format!("good, {} errors: promoted after", names[0]), good),
            row(format!("bad, {} errors: rolled back after", names[1]), bad),
            row("looked at once, at the end".to_owned(), test.fixed()),
            row(
                "promoted without an error after".to_owned(),
                test.successes_at_once() as f64,
            ),
        ],
        notes: vec![
            format!(
                "On average, at {} requests a second; {} of good canaries may be rolled back, {} of \
                 bad ones may go on. {} errors at the very beginning roll it back.",
                three(asked.rps),
                percent(asked.alpha.as_f64()),
                percent(asked.beta.as_f64()),
                test.failures_at_once(),
            ),
            format!(
                "Wald's closed form, between {:.3} and {:.3} of the logarithm of the likelihood ratio. \
                 The error that passes a bound passes it by far, so bad ones take longer: 228 requests \
                 for 189 in simulations of 0.1% against 1%.",
                test.lower(),
                test.upper()
            ),
        ],
        json: json!({
            "lower": test.lower(),
            "upper": test.upper(),
            "good_requests": good,
            "bad_requests": bad,
            "fixed_requests": test.fixed(),
            "good_seconds": good / asked.rps,
            "bad_seconds": bad / asked.rps,
            "fixed_seconds": test.fixed() / asked.rps,
            "failures_at_once": test.failures_at_once(),
            "successes_at_once": test.successes_at_once(),
        }),
        picture: picture(asked, &test),
    })
}

/// How likely a rollback is, and how long it takes, by the true ratio of errors.
fn picture(asked: &Canary, test: &Sprt) -> Picture {
    let (good, bad) = (asked.good.as_f64(), asked.bad.as_f64());
    let (least, most) = (good / 5.0, (bad * 5.0).min(0.99));
    let ratio = |step: u32| least * (most / least).powf(f64::from(step) / 200.0);
    let shares = (0..=200).filter_map(|step| Share::new(ratio(step)).ok());
    let shares: Vec<_> = shares.collect();
    let over = |value: &dyn Fn(Share) -> f64| -> Vec<(f64, f64)> {
        let points = shares
            .iter()
            .map(|share| (share.as_f64() * 100.0, value(*share)));
        points.collect()
    };
    let minutes = |requests: f64| requests / asked.rps / 60.0;
    let given = |value: &dyn Fn(Share) -> f64| {
        let at = |share: Share, colour, name: &str| {
            line(
                name,
                vec![(share.as_f64() * 100.0, value(share))],
                colour,
                false,
            )
        };
        [at(asked.good, 2, "good"), at(asked.bad, 1, "bad")]
    };
    let rollback = |share: Share| test.rollback(share) * 100.0;
    let time = |share: Share| minutes(test.requests(share));
    let mut chances = vec![line("judged after each request", over(&rollback), 0, false)];
    chances.extend(given(&rollback));
    let mut times = vec![line("judged after each request", over(&time), 0, false)];
    times.extend(given(&time));
    let once = minutes(test.fixed());
    let once = vec![(least * 100.0, once), (most * 100.0, once)];
    times.push(line("looked at once", once, 3, true));
    let panel = |title: &str, unit, x, series| Panel {
        title: title.to_owned(),
        unit,
        x,
        log_x: true,
        series,
        bands: Vec::new(),
    };
    Picture {
        title: format!(
            "A canary: {} errors are good, {} are bad",
            percent(good),
            percent(bad)
        ),
        subtitle: format!(
            "{} of good ones may be rolled back, {} of bad ones may go on; {} requests a second",
            percent(asked.alpha.as_f64()),
            percent(asked.beta.as_f64()),
            three(asked.rps)
        ),
        panels: vec![
            panel("Chance of a rollback", "%", "", chances),
            panel(
                "Time to a verdict, on average",
                "minutes",
                "true errors, %",
                times,
            ),
        ],
    }
}
