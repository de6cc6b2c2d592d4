//! Commands about policy files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use outlast_config::Finding;
use serde_json::json;

use crate::commands::Check;
use crate::{FAILED, UNABLE, failed, output};

/// Tells all that is wrong with some files.
pub(crate) fn check(check: &Check) -> ExitCode {
    let mut findings = Vec::new();
    // The exit codes are in the order of how bad they are.
    let mut worst = 0;
    let mut lost = false;
    for file in &check.files {
        match outlast_config::load(file) {
            Ok(loaded) => {
                if check.strict && !loaded.warnings().is_empty() {
                    worst = worst.max(FAILED);
                }
                if !check.json {
                    loaded.warnings().iter().for_each(output::tell);
                    let line = format!("{}: {}\n", file.display(), summary(&loaded));
                    lost |= output::print(&line).is_err();
                }
                findings.extend(loaded.warnings().to_vec());
            }
            Err(problems) => {
                worst = worst.max(failed(&problems));
                if !check.json {
                    output::tell(&problems);
                }
                findings.extend(problems.findings().to_vec());
            }
        }
    }
    if check.json {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        lost |= output::print(&format!("{:#}\n", json!(findings))).is_err();
    }
    ExitCode::from(if lost { UNABLE } else { worst })
}

fn summary(loaded: &outlast_config::Loaded) -> String {
    let plan = loaded.plan();
    let (routes, upstreams) = (plan.routes.len(), plan.upstreams.len());
    let warnings = loaded.warnings().len();
    format!("ok, {routes} routes, {upstreams} upstreams, {warnings} warnings")
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "severity": finding.severity().name(),
        "file": finding.file(),
        "line": finding.place().line,
        "column": finding.place().column,
        "length": finding.place().length,
        "message": finding.message(),
        "mend": finding.mend(),
    })
}

/// Shows the policies that hold.
pub(crate) fn explain(file: &Path, upstream: Option<&str>) -> ExitCode {
    let loaded = match outlast_config::load(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::tell(&problems);
            return ExitCode::from(failed(&problems));
        }
    };
    match loaded.explain(upstream) {
        Ok(page) => {
            let code = output::end(&page, ExitCode::SUCCESS);
            loaded
                .warnings()
                .iter()
                .for_each(|warning| output::tell(format_args!("\n{warning}")));
            code
        }
        Err(error) => {
            output::tell(error);
            ExitCode::from(FAILED)
        }
    }
}

/// Prints the JSON Schema, or the reference, of policy files or scenarios.
pub(crate) fn schema(markdown: bool, scenario: bool) -> ExitCode {
    let text = match (markdown, scenario) {
        (true, false) => outlast_config::reference(),
        (true, true) => outlast_config::scenario_reference(),
        (false, false) => outlast_config::schema(),
        (false, true) => outlast_config::scenario_schema(),
    };
    output::end(&text, ExitCode::SUCCESS)
}

/// Writes the starter file.
pub(crate) fn init(file: &Path) -> ExitCode {
    if file == Path::new("-") {
        return output::end(outlast_config::STARTER, ExitCode::SUCCESS);
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut file| file.write_all(outlast_config::STARTER.as_bytes()));
    match written {
        Ok(()) => {
            let next = format!("{} is written; next: outlast check {0}\n", file.display());
            output::end(&next, ExitCode::SUCCESS)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            output::tell(format_args!(
                "{} exists and is left as it is; name another file, or `-`",
                file.display()
            ));
            ExitCode::from(UNABLE)
        }
        Err(error) => {
            output::tell(format_args!(
                "{} could not be written: {error}",
                file.display()
            ));
            ExitCode::from(UNABLE)
        }
    }
}
