//! One panel: its title, grid, faults and lines.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::picture::axis::{self, Axis};
use crate::picture::legend::{DOT, dash, style};
use crate::picture::{
    Area, Drawn, GREY, HEADING, HEADING_SIZE, LEFT, LINE, MARGIN, PLOT, PX, Panel, Placed, Series,
    TEXT_SIZE, WIDTH, clean, width_of,
};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

/// Draws a panel into its part of the picture.
pub(crate) fn draw(placed: &Placed<'_>, area: &Area<'_>) -> Drawn {
    let (panel, axis) = (placed.panel, &placed.axis);
    let mut title = clean(&panel.title);
    if !panel.unit.is_empty() {
        title = format!("{title}, {}", panel.unit);
    }
    let font = ("sans-serif", HEADING_SIZE, FontStyle::Bold).into_font();
    area.draw(&Text::new(title, (MARGIN, 0), font))?;
    placed.legend.draw(area, HEADING)?;
    let names = Names::new(panel, axis);
    let up = upwards(panel, names.height());
    let (ticks, step) = axis::even(&up, 5);
    let mut chart = ChartBuilder::on(area)
        .margin_top(HEADING + placed.legend.height())
        .margin_left(MARGIN)
        .margin_right(MARGIN)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, placed.below())
        .build_cartesian_2d(
            Ticked {
                range: axis.range.clone(),
                ticks: axis.ticks.clone(),
            },
            Ticked { range: up, ticks },
        )?;
    bands(&mut chart, panel, axis)?;
    grid(&mut chart, placed, step)?;
    names.draw(area, HEADING + placed.legend.height())?;
    let mut is_empty = true;
    for series in &panel.series {
        for part in parts(series, axis) {
            is_empty = false;
            line(&mut chart, series, &part)?;
        }
    }
    if is_empty {
        let middle = Pos::new(HPos::Center, VPos::Center);
        let font = ("sans-serif", HEADING_SIZE)
            .into_font()
            .color(&GREY)
            .pos(middle);
        let place = (
            (MARGIN + LEFT + WIDTH - MARGIN) / 2,
            HEADING + placed.legend.height() + PLOT / 2,
        );
        area.draw(&Text::new("no data", place, font))?;
    }
    Ok(())
}

/// Numbers along a line, with the ticks that were chosen for them.
struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// From 0, or below if something is, with room for names at the top.
fn upwards(panel: &Panel, names: i32) -> Range<f64> {
    let points = panel.series.iter().flat_map(|series| &series.points);
    let values = points.map(|point| point.1).filter(|y| y.is_finite());
    let (least, most) = values.fold((0.0f64, 0.0f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let most = if least < most { most } else { 1.0 };
    let all = (most - least) * 1.04 * f64::from(PLOT) / f64::from(PLOT - names);
    least..least + all
}

fn bands(chart: &mut Chart<'_, '_>, panel: &Panel, axis: &Axis) -> Drawn {
    let up = chart.y_range();
    let areas = panel.bands.iter().filter_map(|band| {
        let (from, to) = (axis.place(band.from)?, axis.place(band.to)?);
        let corners = [(from, up.start), (to, up.end)];
        Some(Rectangle::new(corners, RGBColor(236, 236, 236).filled()))
    });
    chart.draw_series(areas.collect::<Vec<_>>())?;
    Ok(())
}

fn grid(chart: &mut Chart<'_, '_>, placed: &Placed<'_>, step: f64) -> Drawn {
    let thin = RGBColor(218, 218, 218).stroke_width(PX as u32);
    let font = ("sans-serif", TEXT_SIZE).into_font().color(&GREY);
    let below = |x: &f64| placed.axis.label(*x);
    let left = |y: &f64| axis::number(*y, step);
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(thin)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY.stroke_width(PX as u32))
        .set_all_tick_mark_size(4 * PX)
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_label_formatter(&below)
        .y_label_formatter(&left);
    if placed.has_axis {
        mesh.x_desc(placed.panel.x);
    }
    mesh.draw()
}

/// What of a line lies between its gaps.
fn parts(series: &Series, axis: &Axis) -> Vec<Vec<(f64, f64)>> {
    let place = |&(x, y): &(f64, f64)| Some((axis.place(x)?, Some(y).filter(|y| y.is_finite())?));
    let places: Vec<_> = series.points.iter().map(place).collect();
    let parts = places.split(Option::is_none);
    let parts = parts.filter(|part| !part.is_empty());
    parts
        .map(|part| part.iter().flatten().copied().collect())
        .collect()
}

fn line(chart: &mut Chart<'_, '_>, series: &Series, part: &[(f64, f64)]) -> Drawn {
    let style = style(series);
    if let [point] = part {
        chart.draw_series([Circle::new(*point, DOT, style.filled())])?;
    } else if let Some((size, spacing)) = dash(series) {
        let points = part.to_vec();
        chart.draw_series([DashedPathElement::new(points, size, spacing, style)])?;
    } else {
        chart.draw_series([PathElement::new(part, style)])?;
    }
    Ok(())
}

/// The names of faults, in rows in which none hides another.
struct Names<'a>(Vec<Name<'a>>);

struct Name<'a> {
    text: &'a str,
    left: i32,
    row: i32,
}

impl<'a> Names<'a> {
    fn new(panel: &'a Panel, axis: &Axis) -> Names<'a> {
        let mut names: Vec<Name<'a>> = Vec::new();
        let (least, most) = (MARGIN + LEFT, WIDTH - MARGIN);
        let wide = axis.range.end - axis.range.start;
        let pixel = |x: f64| {
            let share = (x - axis.range.start) / wide;
            least + (share * f64::from(most - least)) as i32
        };
        for band in panel.bands.iter().filter(|band| !band.name.is_empty()) {
            let Some(from) = axis.place(band.from) else {
                continue;
            };
            let width = width_of(&band.name);
            let left = (pixel(from) + 3 * PX).min(most - width).max(least);
            let is_free = |row: i32| {
                let in_row = names.iter().filter(|name| name.row == row);
                let mut ends = in_row.map(|name| (name.left, name.left + width_of(name.text)));
                ends.all(|(from, to)| left > to || left + width < from)
            };
            let row = (0..).find(|row| is_free(*row)).unwrap_or_default();
            let text = &band.name;
            names.push(Name { text, left, row });
        }
        Names(names)
    }

    /// The room they take, at most half of the panel.
    fn height(&self) -> i32 {
        let rows = self.0.iter().map(|name| name.row + 1).max().unwrap_or(0);
        (rows * LINE).min(PLOT / 2)
    }

    fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        for name in &self.0 {
            let font = ("sans-serif", TEXT_SIZE).into_font().color(&GREY);
            let place = (name.left, top + 3 * PX + name.row * LINE);
            area.draw(&Text::new(clean(name.text), place, font))?;
        }
        Ok(())
    }
}
