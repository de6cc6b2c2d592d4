//! What people see while the day goes on: tables in a terminal, or a line a second.

use std::io::{self, IsTerminal};
use std::time::Duration;

use outlast_gateway::{Status, UpstreamStatus};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::load::{Action, Fared, Sample};
use super::orders::{Board, Told};
use super::shop::WORKERS;
use super::story::Chapter;
use crate::commands::Demo;
use crate::output;

/// A moment of the day.
pub(crate) struct Moment<'a> {
    pub(crate) time: Duration,
    pub(crate) day: Duration,
    pub(crate) protected: &'a [Sample],
    pub(crate) bare: &'a [Sample],
    pub(crate) workers: [usize; 2],
    pub(crate) orders: [&'a Board; 2],
    /// How often the process that runs the orders was killed.
    pub(crate) kills: usize,
    pub(crate) status: &'a Status,
    /// A moment ago, to tell rates.
    pub(crate) before: &'a Status,
    pub(crate) since: Duration,
}

impl Moment<'_> {
    fn chapter(&self) -> Chapter {
        Chapter::at(self.time, self.day)
    }

    /// How those fared who came in the last two seconds and have been answered.
    fn lately(&self, samples: &[Sample], action: Action) -> Fared {
        let from = self.time.saturating_sub(LATELY);
        let lately = samples.iter().rev().take(2000);
        Fared::of(
            lately.filter(|sample| sample.action == action && sample.came + sample.took >= from),
        )
    }
}

/// What "now" means for a rate of success.
const LATELY: Duration = Duration::from_secs(2);

/// Where it is shown.
pub(crate) enum View {
    Terminal(DefaultTerminal),
    Lines,
    Nothing,
}

impl View {
    pub(crate) fn new(demo: &Demo) -> View {
        match (demo.json, demo.plain || !io::stdout().is_terminal()) {
            (true, _) => View::Nothing,
            (false, true) => View::Lines,
            (false, false) => View::Terminal(ratatui::init()),
        }
    }

    /// How often there is something to see.
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_millis(match self {
            View::Terminal(_) => 250,
            View::Lines | View::Nothing => 1000,
        })
    }

    /// Whether the viewer wants to leave.
    pub(crate) fn show(&mut self, moment: &Moment<'_>) -> io::Result<bool> {
        match self {
            View::Nothing => Ok(false),
            View::Lines => {
                output::print(&format!("{}\n", line(moment)))?;
                Ok(false)
            }
            View::Terminal(terminal) => {
                terminal.draw(|frame| draw(frame, moment))?;
                wants_to_leave()
            }
        }
    }

    pub(crate) fn close(self) {
        if let View::Terminal(_) = self {
            ratatui::restore();
        }
    }
}

fn wants_to_leave() -> io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()? {
            let control_c =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || key.code == KeyCode::Char('q') {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn line(moment: &Moment<'_>) -> String {
    let fared = |samples: &[Sample]| {
        let parts = Action::ALL.map(|action| {
            let fared = moment.lately(samples, action);
            format!(
                "{} {:5.1} % p99 {:4} ms",
                action.name(),
                fared.success * 100.0,
                fared.p99.as_millis()
            )
        });
        parts.join("  ")
    };
    let [with, without] = moment.orders.map(orders);
    format!(
        "t={:>3}s {:<32} with: {}   without: {} (workers {}/{WORKERS})   orders with: {with}   without: {without}",
        moment.time.as_secs(),
        moment.chapter().told(),
        fared(moment.protected),
        fared(moment.bare),
        moment.workers[1],
    )
}

/// How many orders ended in which way, as customers were told.
fn orders(board: &Board) -> String {
    let count = |meant: &[Told]| board.values().filter(|told| meant.contains(told)).count();
    let ends = [
        (count(&[Told::Completed]), "done"),
        (count(&[Told::Compensated]), "undone"),
        (count(&[Told::Failed]), "failed"),
        (count(&[Told::Running, Told::Nothing]), "running"),
    ];
    let told = ends.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    told.join(" ")
}

fn draw(frame: &mut ratatui::Frame<'_>, moment: &Moment<'_>) {
    let [top, customers, placed, upstreams] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(7),
        Constraint::Length(4),
        Constraint::Min(6),
    ])
    .areas(frame.area());
    let chapter = moment.chapter();
    let color = match chapter {
        Chapter::Calm | Chapter::Recovery => Color::Green,
        _ => Color::Red,
    };
    let told = format!(
        " {:>3} s of {} s   {}",
        moment.time.as_secs(),
        moment.day.as_secs(),
        chapter.told()
    );
    let title = Block::bordered().title(" outlast demo: a day of trouble in a shop (q to leave) ");
    frame.render_widget(
        Paragraph::new(Line::from(told.fg(color).bold())).block(title),
        top,
    );
    frame.render_widget(customers_table(moment), customers);
    frame.render_widget(orders_told(moment), placed);
    frame.render_widget(upstreams_table(moment), upstreams);
}

fn orders_told<'a>(moment: &Moment<'_>) -> Paragraph<'a> {
    let [with, without] = moment.orders.map(orders);
    let killed = match moment.kills {
        0 => String::new(),
        kills => format!("   (kill -9: {kills})"),
    };
    let lines = vec![
        Line::from(format!("WITH OUTLAST {with}{killed}")),
        Line::from(format!("WITHOUT      {without}")),
    ];
    Paragraph::new(lines).block(Block::bordered().title(" orders over five services "))
}

fn customers_table<'a>(moment: &Moment<'_>) -> Table<'a> {
    let row = |action: Action| {
        let (with, without) = (
            moment.lately(moment.protected, action),
            moment.lately(moment.bare, action),
        );
        Row::new([
            Text::from(action.name()),
            success(with),
            Text::from(format!("{} ms", with.p99.as_millis())),
            Text::from(""),
            success(without),
            Text::from(format!("{} ms", without.p99.as_millis())),
        ])
    };
    let workers = Row::new([
        Text::from("order workers busy"),
        Text::from(format!("{}/{WORKERS}", moment.workers[0])),
        Text::from(""),
        Text::from(""),
        Text::from(format!("{}/{WORKERS}", moment.workers[1])),
    ]);
    let widths = [20, 12, 10, 3, 12, 10].map(Constraint::Length);
    Table::new(Action::ALL.map(row).into_iter().chain([workers]), widths)
        .header(
            Row::new(["customers", "WITH OUTLAST", "p99", "", "WITHOUT", "p99"])
                .style(Style::new().bold()),
        )
        .block(Block::bordered().title(" the last two seconds "))
}

fn success<'a>(fared: Fared) -> Text<'a> {
    let color = match fared.success {
        0.99.. => Color::Green,
        0.9.. => Color::Yellow,
        _ => Color::Red,
    };
    Text::from(format!("{:.1} %", fared.success * 100.0)).fg(color)
}

fn upstreams_table<'a>(moment: &Moment<'_>) -> Table<'a> {
    let rows = moment.status.upstreams.iter().zip(&moment.before.upstreams);
    // Nobody comes by this gateway to what only orders need.
    let rows: Vec<_> = rows
        .filter(|(now, _)| {
            now.endpoints
                .iter()
                .any(|it| it.successes + it.transient > 0)
        })
        .map(|(now, before)| upstream_row(now, before, moment.since))
        .collect();
    let widths = [
        Constraint::Length(13),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(9),
        Constraint::Min(16),
    ];
    let head = [
        "upstream", "req/s", "ok", "p99*", "extra/s", "queue", "fallback", "breakers",
    ];
    Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().bold()))
        .block(Block::bordered().title(" the gateway's upstreams (* since the beginning) "))
}

fn upstream_row<'a>(now: &UpstreamStatus, before: &UpstreamStatus, since: Duration) -> Row<'a> {
    let rate = |count: &dyn Fn(&UpstreamStatus) -> u64| {
        count(now).saturating_sub(count(before)) as f64 / since.as_secs_f64()
    };
    let ok = rate(&|it| it.endpoints.iter().map(|endpoint| endpoint.successes).sum());
    let failed = rate(&|it| {
        let failed = it
            .endpoints
            .iter()
            .map(|endpoint| endpoint.transient + endpoint.overloads);
        failed.sum()
    });
    let share = if ok + failed > 0.0 {
        ok / (ok + failed)
    } else {
        1.0
    };
    let breakers = now.endpoints.iter().map(|endpoint| {
        let state = endpoint
            .breaker
            .as_ref()
            .map_or("-", |breaker| breaker.state);
        format!("{} {state}", endpoint.name)
    });
    let is_shut = now.endpoints.iter().any(|endpoint| {
        endpoint
            .breaker
            .as_ref()
            .is_some_and(|breaker| breaker.state != "closed")
    });
    let breakers = breakers.collect::<Vec<_>>().join(", ");
    Row::new([
        Text::from(now.name.clone()),
        Text::from(format!("{:.0}", ok + failed)),
        Text::from(format!("{:.0} %", share * 100.0)),
        Text::from(format!("{:.0} ms", now.latency.p99_ms.unwrap_or_default())),
        Text::from(format!(
            "{:.0}",
            rate(&|it| it.retries + it.hedges + it.failovers)
        )),
        Text::from(
            now.bulkhead
                .as_ref()
                .map_or("-".to_owned(), |it| it.queued.to_string()),
        ),
        Text::from(format!("{:.0}/s", rate(&|it| it.fallbacks))),
        Text::from(breakers).fg(if is_shut { Color::Yellow } else { Color::Reset }),
    ])
}
