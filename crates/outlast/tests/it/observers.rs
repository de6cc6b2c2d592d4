//! The ready-made observers, on what they really write.

use std::io;
use std::sync::{Arc, Mutex};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outlast::{Config, Setup, Upstream, breaker, fallback, observe, retry};

fn fail_until_it_opens(setup: Setup) {
    let config = Config::new("db")
        .breaker(breaker::Config::consecutive(2))
        .retry(retry::Config::attempts(2).backoff(std::time::Duration::ZERO));
    let db = Upstream::with(config, setup).unwrap();
    for _ in 0..2 {
        let _ = db.call_blocking(|_| Err::<(), _>("down"));
    }
}

#[test]
fn metrics_count_attempts_rejections_and_the_breakers_state() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        fail_until_it_opens(Setup::default().observer(observe::Metrics));
    });
    let written: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(gauge) => gauge.into_inner(),
                DebugValue::Histogram(samples) => samples.len() as f64,
            };
            (format!("{}{{{}}}", key.name(), labels.join(",")), value)
        })
        .collect();
    let expected = [
        (
            "outlast_attempts_total{upstream=db,endpoint=main,outcome=transient}",
            2.0,
        ),
        ("outlast_attempt_seconds{upstream=db,endpoint=main}", 2.0),
        ("outlast_extra_attempts_total{upstream=db,kind=retry}", 1.0),
        ("outlast_rejections_total{upstream=db,reason=open}", 1.0),
        ("outlast_rejections_total{upstream=db,reason=attempts}", 1.0),
        ("outlast_breaker_open{upstream=db,endpoint=main}", 1.0),
    ];
    for (name, value) in expected {
        assert!(
            written.contains(&(name.to_owned(), value)),
            "{name} in {written:#?}"
        );
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn tracing_warns_of_a_trip_and_names_the_upstream() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        fail_until_it_opens(Setup::default().observer(observe::Tracing));
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let warning = text
        .lines()
        .find(|line| line.contains("WARN"))
        .expect("a warning");
    assert!(warning.contains("breaker tripped"), "{warning}");
    assert!(warning.contains("upstream=\"db\"") && warning.contains("endpoint=\"main\""));
    assert!(
        text.contains("DEBUG") && text.contains("reason=\"open\""),
        "{text}"
    );
}

#[test]
fn both_tell_what_a_policy_in_shadow_would_have_done() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let config = Config::new("db")
            .breaker(breaker::Config::consecutive(1).enforce(false))
            .retry(retry::Config::attempts(2).enforce(false))
            .fallback(fallback::Config::default().enforce(false));
        let setup = Setup::default().observer(observe::Metrics);
        let db = Upstream::with(config, setup).unwrap();
        for _ in 0..2 {
            let _ = db.caller().call_blocking_or(|_| Err("down"), |_| Ok(()));
        }
    });
    let counted: Vec<_> = snapshotter.snapshot().into_vec();
    let names = [
        "outlast_would_reject_total",
        "outlast_would_start_total",
        "outlast_would_fall_back_total",
    ];
    for name in names {
        assert!(
            counted.iter().any(|(key, ..)| key.key().name() == name),
            "{name}"
        );
    }
}
