//! `outlast slo`: the mathematics of availability as numbers and as pictures.

mod availability;
mod budget;
mod burn;
mod canary;
mod phi;
mod questions;
mod texts;

use std::process::ExitCode;

use outlast_sim::slo::SloError;
use serde_json::{Value, json};

use crate::picture::{self, Picture, escaped};
use crate::slo::questions::Question;
pub(crate) use crate::slo::questions::Slo;
use crate::{UNABLE, WRONG, output};

/// What is told, in each of the ways it can be.
struct Answer {
    /// The first row of the table; empty for none.
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// What the numbers mean, or leave out.
    notes: Vec<String>,
    /// All numbers; seconds and shares from 0 to 1.
    json: Value,
    picture: Picture,
}

/// Answers a question, on standard output and as a picture.
pub(crate) fn run(slo: &Slo) -> ExitCode {
    let answer = match answer(&slo.question) {
        Ok(answer) => answer,
        Err(error) => {
            output::tell(format_args!("error: {error}"));
            return ExitCode::from(WRONG);
        }
    };
    if let Some(file) = &slo.plot {
        let is_page = file
            .extension()
            .is_some_and(|extension| extension == "html");
        let drawn = if is_page {
            picture::html(&answer.picture, &answer.as_html())
        } else {
            picture::svg(&answer.picture)
        };
        if let Err(error) = std::fs::write(file, drawn) {
            output::tell(format_args!(
                "{} could not be written: {error}",
                file.display()
            ));
            return ExitCode::from(UNABLE);
        }
        output::tell(format_args!("{} is written", file.display()));
    }
    let told = if slo.json {
        let mut json = answer.json;
        json["notes"] = json!(answer.notes);
        format!("{json:#}\n")
    } else {
        answer.as_text()
    };
    output::end(&told, ExitCode::SUCCESS)
}

fn answer(question: &Question) -> Result<Answer, SloError> {
    match question {
        Question::Series { units } => Ok(availability::series(units)),
        Question::Parallel { units, beta } => Ok(availability::parallel(units, *beta)),
        Question::KOfN {
            needed,
            units,
            unit,
            beta,
        } => availability::k_of_n(*needed, *units, *unit, *beta),
        Question::Failover(failover) => availability::failover(failover),
        Question::Budget(budget) => budget::answer(budget),
        Question::Burn { target, window } => burn::answer(*target, *window),
        Question::Canary(canary) => canary::answer(canary),
        Question::Phi {
            mean,
            sd,
            threshold,
        } => phi::answer(*mean, *sd, *threshold),
    }
}

impl Answer {
    /// Columns, and below them the notes.
    fn as_text(&self) -> String {
        let head = (!self.head.is_empty()).then_some(&self.head);
        let rows: Vec<_> = head.into_iter().chain(&self.rows).collect();
        let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let cells = row.iter().zip(&widths);
            let padded: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    fn as_html(&self) -> String {
        let row = |cells: &Vec<String>, tag: &str| {
            let cell = |cell: &String| format!("<{tag}>{}</{tag}>", escaped(cell));
            format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>())
        };
        let head = (!self.head.is_empty()).then(|| row(&self.head, "th"));
        let rows: String = self.rows.iter().map(|cells| row(cells, "td")).collect();
        let notes = self
            .notes
            .iter()
            .map(|note| format!("<p>{}</p>\n", escaped(note)));
        format!(
            "<table>\n{}{rows}</table>\n{}",
            head.unwrap_or_default(),
            notes.collect::<String>()
        )
    }
}

/// A row of a label and what belongs to it.
fn row(label: &str, value: impl Into<String>) -> Vec<String> {
    vec![label.to_owned(), value.into()]
}
