//! The recorded results: `tests/vectors/sim.json`.

use std::time::Duration;

use outlast_sim::{Report, ServiceId};
use serde_json::Value;

/// A row of the file.
pub struct Row(Value);

/// The row with this number.
pub fn row(id: &str) -> Row {
    let mut rows = all().into_iter();
    Row(rows.find(|row| row["id"] == id).unwrap())
}

/// All of them.
pub fn all() -> Vec<Value> {
    let text = include_str!("../../../../tests/vectors/sim.json");
    let mut file: Value = serde_json::from_str(text).unwrap();
    let Value::Array(rows) = file["rows"].take() else {
        panic!("a list of rows");
    };
    rows
}

/// `whole` by `cargo xtask test --long`, or else a `part` of it that takes seconds.
pub fn sized<T>(part: T, whole: T) -> T {
    if std::env::var_os("OUTLAST_LONG").is_some() {
        whole
    } else {
        part
    }
}

impl Row {
    pub fn parameter(&self, name: &str) -> f64 {
        let value = &self.0["params"][name];
        value.as_f64().unwrap_or_else(|| panic!("{name}: {value}"))
    }

    /// The same row with another parameter.
    pub fn with(mut self, name: &str, value: u32) -> Row {
        self.0["params"][name] = value.into();
        self
    }

    /// What the scenario says at its end.
    pub fn failure_rate(&self) -> f64 {
        let scenario = self.0["scenario"].as_str().unwrap();
        let (_, rate) = scenario.rsplit_once("failure rate ").unwrap();
        rate.parse().unwrap()
    }

    pub fn parameters(&self, name: &str) -> Vec<f64> {
        list(&self.0["params"][name])
    }

    pub fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.parameter(name))
    }

    pub fn expected(&self, name: &str) -> f64 {
        let value = &self.0["expected"][name];
        value.as_f64().unwrap_or_else(|| panic!("{name}: {value}"))
    }

    pub fn all_expected(&self, name: &str) -> Vec<f64> {
        list(&self.0["expected"][name])
    }

    pub fn all_said(&self, name: &str) -> Vec<bool> {
        let values = self.0["expected"][name].as_array().unwrap().iter();
        values.map(|value| value.as_bool().unwrap()).collect()
    }

    pub fn lists(&self, name: &str) -> Vec<Vec<f64>> {
        let lists = self.0["expected"][name].as_array().unwrap().iter();
        lists.map(list).collect()
    }

    pub fn object(&self, name: &str) -> &serde_json::Map<String, Value> {
        self.0["expected"][name].as_object().unwrap()
    }

    pub fn tolerance(&self, name: &str) -> f64 {
        self.0["tolerance"][name].as_f64().unwrap()
    }

    /// That a measurement is what the row expects, within its relative tolerance.
    pub fn check(&self, name: &str, measured: f64) {
        let expected = self.expected(name);
        self.near(name, expected, measured);
    }

    /// As [`Row::check`], for one of several.
    pub fn near(&self, what: &str, expected: f64, measured: f64) {
        let off = measured / expected - 1.0;
        let allowed = self.tolerance("rel");
        assert!(
            off.abs() <= allowed,
            "{} {what}: {measured} for {expected}, {:+.2} %",
            self.0["id"],
            off * 100.0
        );
    }
}

fn list(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

/// Little's law (row Q09): requests that are there are those that come times how long they stay.
pub fn check_little(report: &Report, service: ServiceId) {
    let service = report.service(service);
    let off = service.stays.as_secs_f64() / service.presence - 1.0;
    assert!(
        off.abs() <= row("Q09").tolerance("rel"),
        "{service:?}: {off}"
    );
}
