//! After how long a silence a service is suspected.

use std::time::Duration;

use outlast_sim::slo::{Phi, SloError};
use serde_json::json;

use crate::picture::{Panel, Picture};
use crate::slo::availability::line;
use crate::slo::texts::{span, three};
use crate::slo::{Answer, row};

pub(crate) fn answer(mean: Duration, sd: Duration, threshold: f64) -> Result<Answer, SloError> {
    let phi = Phi::new(mean, sd)?;
    let at = phi.reaches(threshold)?;
    let alarm = phi.false_alarm(threshold);
    let most = at.max(mean).as_secs_f64() * 1.2;
    let silence = |step: u32| most * f64::from(step) / 200.0;
    let points = (0..=200).map(|step| {
        let seconds = silence(step);
        (seconds, phi.after(Duration::from_secs_f64(seconds)))
    });
    let level = vec![(0.0, threshold), (most, threshold)];
    let series = vec![
        line("suspicion", points.collect(), 0, false),
        line("threshold", level, 1, true),
        line("suspected", vec![(at.as_secs_f64(), threshold)], 6, false),
    ];
    let often = match alarm {
        Duration::MAX => "practically never".to_owned(),
        alarm => format!("once in {}", span(alarm)),
    };
    Ok(Answer {
        head: Vec::new(),
        rows: vec![
            row("suspected after", format!("{} s of silence", decimals(at))),
            row("wrongly", often),
        ],
        notes: vec![
            "If heartbeats are normally distributed. They have longer tails: take more than the \
             measured deviation, or a threshold from measured silences."
                .to_owned(),
        ],
        json: json!({
            "threshold_seconds": at.as_secs_f64(),
            "false_alarm_seconds": (alarm < Duration::MAX).then_some(alarm.as_secs_f64()),
        }),
        picture: Picture {
            title: format!("Suspected after {} s of silence", decimals(at)),
            subtitle: format!(
                "Heartbeats every {}, standard deviation {}; phi {}",
                span(mean),
                span(sd),
                three(threshold)
            ),
            panels: vec![Panel {
                title: "Suspicion (phi)".to_owned(),
                unit: "",
                x: "silence, s",
                log_x: false,
                series,
                bands: Vec::new(),
            }],
        },
    })
}

/// To a tenth of a millisecond.
fn decimals(time: Duration) -> String {
    let text = format!("{:.4}", time.as_secs_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
