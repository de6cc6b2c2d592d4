//! Which line is which.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::picture::{
    Area, COLOURS, Drawn, LINE, MARGIN, PX, Panel, Series, TEXT_SIZE, WIDTH, clean, width_of,
};

/// The lines of a panel that have names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Legend<'a>(Vec<&'a Series>);

impl<'a> Legend<'a> {
    pub(crate) fn new(panel: &'a Panel) -> Legend<'a> {
        let named = panel.series.iter().filter(|series| !series.name.is_empty());
        Legend(named.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says the same of the same lines.
    pub(crate) fn is_like(&self, other: &Legend<'_>) -> bool {
        let key = |series: &&Series| (series.name.clone(), series.colour, series.dashed);
        self.0.iter().map(key).eq(other.0.iter().map(key))
    }

    /// How much room it takes; none if it is empty.
    pub(crate) fn height(&self) -> i32 {
        let rows = self.places().last().map_or(0, |(_, row)| row + 1);
        rows * LINE
    }

    /// Where each line's entry begins, and in which row: as many in one as fit.
    fn places(&self) -> Vec<(i32, i32)> {
        let (mut x, mut row) = (MARGIN, 0);
        let mut places = Vec::new();
        for series in &self.0 {
            let width = SAMPLE + 8 * PX + width_of(&series.name) + BETWEEN;
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, row) = (MARGIN, row + 1);
            }
            places.push((x, row));
            x += width;
        }
        places
    }

    pub(crate) fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        for (series, (x, row)) in self.0.iter().zip(self.places()) {
            let top = top + row * LINE;
            let middle = top + 7 * PX;
            let sample = [(x, middle), (x + SAMPLE, middle)];
            if let [_] = series.points[..] {
                let centre = (x + SAMPLE / 2, middle);
                area.draw(&Circle::new(centre, DOT, style(series).filled()))?;
            } else if let Some((size, spacing)) = dash(series) {
                let style = style(series);
                area.draw(&DashedPathElement::new(sample, size, spacing, style))?;
            } else {
                area.draw(&PathElement::new(sample, style(series)))?;
            }
            let text = ("sans-serif", TEXT_SIZE).into_font();
            let place = (x + SAMPLE + 8 * PX, top);
            area.draw(&Text::new(clean(&series.name), place, text))?;
        }
        Ok(())
    }
}

/// How a line looks.
pub(crate) fn style(series: &Series) -> ShapeStyle {
    let colour = COLOURS[series.colour % COLOURS.len()];
    colour.stroke_width(2 * PX as u32)
}

/// How long dashes are and how far apart; of each colour others, for those who see no colours.
pub(crate) fn dash(series: &Series) -> Option<(i32, i32)> {
    let dashes = [(8, 5), (3, 4), (14, 5)];
    let (size, spacing) = dashes[series.colour % dashes.len()];
    series.dashed.then_some((size * PX, spacing * PX))
}

/// The radius of a point that stands alone.
pub(crate) const DOT: i32 = 4 * PX;
const SAMPLE: i32 = 34 * PX;
const BETWEEN: i32 = 18 * PX;
