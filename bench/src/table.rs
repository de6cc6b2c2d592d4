//! Figures, goals and the one table they end up in.

use crate::measure::Figures;

/// One operation as several implementations do it. The first row is the one of reference.
pub(crate) struct Group {
    operation: &'static str,
    rows: Vec<Row>,
}

/// One implementation of an operation.
pub(crate) struct Row {
    who: &'static str,
    side: Side,
    figures: Figures,
    goals: Vec<Goal>,
}

enum Side {
    Ours,
    Peer,
    Base,
}

/// What a figure of ours must not exceed.
pub(crate) enum Goal {
    /// Nanoseconds, alone.
    Single(f64),
    /// Nanoseconds per thread, contended.
    Contended(f64),
    /// Allocations.
    Allocations(f64),
    /// The one figure of an operation that has no others.
    Whole(f64),
    /// This share of another row of the same operation.
    Share {
        numerator: f64,
        denominator: f64,
        of: &'static str,
    },
}

impl Group {
    pub(crate) fn new(operation: &'static str) -> Group {
        Group {
            operation,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(mut self, row: Row) -> Group {
        self.rows.push(row);
        self
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// The figure by which rows are compared.
    fn figure_of(&self, who: &str) -> f64 {
        self.rows
            .iter()
            .find(|row| row.who == who)
            .and_then(|row| row.figures.single.or(row.figures.whole))
            .expect("a goal names a row of its own operation")
    }
}

impl Row {
    /// What the clock or the machine costs by itself.
    pub(crate) fn base(who: &'static str, figures: Figures) -> Row {
        Row::new(who, Side::Base, figures)
    }

    pub(crate) fn ours(who: &'static str, figures: Figures) -> Row {
        Row::new(who, Side::Ours, figures)
    }

    pub(crate) fn peer(who: &'static str, figures: Figures) -> Row {
        Row::new(who, Side::Peer, figures)
    }

    fn new(who: &'static str, side: Side, figures: Figures) -> Row {
        Row {
            who,
            side,
            figures,
            goals: Vec::new(),
        }
    }

    pub(crate) fn goals(mut self, goals: impl IntoIterator<Item = Goal>) -> Row {
        self.goals.extend(goals);
        self
    }
}

impl Goal {
    /// At most one `parts`-th of what `of` takes.
    pub(crate) fn part(parts: f64, of: &'static str) -> Goal {
        Goal::Share {
            numerator: 1.0,
            denominator: parts,
            of,
        }
    }

    fn limit_and_figure(&self, group: &Group, figures: &Figures) -> (f64, Option<f64>) {
        match self {
            Goal::Single(limit) => (*limit, figures.single),
            Goal::Contended(limit) => (*limit, figures.contended),
            Goal::Allocations(limit) => (*limit, figures.allocations),
            Goal::Whole(limit) => (*limit, figures.whole),
            Goal::Share {
                numerator,
                denominator,
                of,
            } => (
                group.figure_of(of) * numerator / denominator,
                figures.single.or(figures.whole),
            ),
        }
    }

    fn describe(&self) -> String {
        match self {
            Goal::Single(limit) => format!("{limit} ns"),
            Goal::Contended(limit) => format!("{limit} ns with 2 threads"),
            Goal::Allocations(limit) => format!("{limit} allocations"),
            Goal::Whole(limit) => format!("{limit}"),
            Goal::Share {
                numerator,
                denominator,
                of,
            } => format!("{numerator}/{denominator} of {of}"),
        }
    }
}

/// The table of all operations.
pub(crate) fn render(groups: &[Group]) -> String {
    let mut table = String::from(
        "| operation | implementation | 1 thread, ns | 2 threads, ns | allocations | whole \
         | / ours, 1 thread | / ours, 2 threads | goal, at most | met |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|---|\n",
    );
    for group in groups {
        for row in &group.rows {
            table.push_str(&render_row(group, row));
        }
    }
    table
}

fn render_row(group: &Group, row: &Row) -> String {
    let reference = &group.rows[0].figures;
    let ratio = |figure: Option<f64>, reference: Option<f64>| match (figure, reference, &row.side) {
        (Some(figure), Some(reference), Side::Peer) => format!("{:.1}", figure / reference),
        _ => String::new(),
    };
    let who = match row.side {
        Side::Ours => format!("**outlast**, {}", row.who),
        Side::Peer | Side::Base => row.who.to_owned(),
    };
    let goals: Vec<String> = row.goals.iter().map(Goal::describe).collect();
    let alone = row.figures.single.or(row.figures.whole);
    format!(
        "| {} | {who} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        group.operation,
        number(row.figures.single),
        number(row.figures.contended),
        number(row.figures.allocations),
        number(row.figures.whole),
        ratio(alone, reference.single.or(reference.whole)),
        ratio(row.figures.contended, reference.contended),
        goals.join("; "),
        verdict(group, row),
    )
}

/// Whether all goals of a row are met, and which are not.
fn verdict(group: &Group, row: &Row) -> String {
    if row.goals.is_empty() {
        return String::new();
    }
    let missed: Vec<String> = row
        .goals
        .iter()
        .filter(|goal| {
            let (limit, figure) = goal.limit_and_figure(group, &row.figures);
            figure.is_none_or(|figure| figure > limit)
        })
        .map(Goal::describe)
        .collect();
    if missed.is_empty() {
        "yes".to_owned()
    } else {
        format!("**no**: {}", missed.join("; "))
    }
}

fn number(figure: Option<f64>) -> String {
    match figure {
        None => String::new(),
        Some(figure) if figure >= 100.0 || figure.fract() == 0.0 => format!("{figure:.0}"),
        Some(figure) => format!("{figure:.1}"),
    }
}
