//! Pictures of numbers over an axis, as SVG or as a page: what a review, a wiki or a pull request
//! can show.
//!
//! Panels stand one below the other. Colours are told apart by people who see fewer of them, and
//! each may be dashed, too. Nothing hides anything: legends are outside, names of faults have room
//! above the lines. Numbers that are none (not finite) leave a gap.

mod axis;
mod legend;
mod panel;

use std::path::PathBuf;

use plotters::prelude::*;

use crate::picture::axis::Axis;
use crate::picture::legend::Legend;

/// Panels one below the other, over one axis of time, or of something else.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// What it shows, in a few words.
    pub(crate) title: String,
    /// Under which conditions, in a sentence; may be empty.
    pub(crate) subtitle: String,
    pub(crate) panels: Vec<Panel>,
}

/// One quantity.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Of what is counted upwards; may be empty.
    pub(crate) unit: &'static str,
    /// The label of the axis below, with its unit. A panel without one shares the axis of the next
    /// panel that has one, and does not repeat it.
    pub(crate) x: &'static str,
    /// Whether the axis below is in powers of ten. Of panels that share an axis the last one says.
    pub(crate) log_x: bool,
    pub(crate) series: Vec<Series>,
    pub(crate) bands: Vec<Band>,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// In the legend; empty for none.
    pub(crate) name: String,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// Which one of [`COLOURS`]; it begins again after the last.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
}

/// A fault, or another time that is special: a grey area with its name at the top.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) name: String,
}

/// The picture as a file of its own.
pub(crate) fn svg(picture: &Picture) -> String {
    let layout = Layout::new(picture);
    let size = (WIDTH as u32, layout.height as u32);
    let mut drawn = String::new();
    {
        let area = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
        draw(picture, &layout, &area).expect("a string takes what is written to it");
        area.present()
            .expect("a string takes what is written to it");
    }
    // The first line is the head, in units that are finer than pixels; pages want pixels.
    let body = drawn.split_once('\n').map_or("", |(_, body)| body);
    let (width, height) = (WIDTH / PX, layout.height / PX);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {} {}\" role=\"img\">\n<title>{}</title>\n{body}",
        size.0,
        size.1,
        escaped(&picture.title),
    )
}

/// The picture as a page, with `rows` below it: HTML that is escaped already.
pub(crate) fn html(picture: &Picture, rows: &str) -> String {
    let (title, picture) = (escaped(&picture.title), svg(picture));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{picture}{rows}\n</body>\n</html>\n"
    )
}

/// Reads the name of a file that a picture can be written to, in a command line.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "html") => Ok(file),
        _ => Err("a picture is an `.svg` or an `.html` file, such as `picture.svg`".to_owned()),
    }
}

/// A text as the content of XML or HTML. Characters that XML does not know are left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Where everything is, from the top down.
struct Layout<'a> {
    subtitle: Vec<String>,
    /// For all panels, if they have the same.
    legend: Legend<'a>,
    panels: Vec<Placed<'a>>,
    height: i32,
}

/// A panel, and where it is.
struct Placed<'a> {
    panel: &'a Panel,
    legend: Legend<'a>,
    axis: Axis,
    /// Whether the axis is shown below it.
    has_axis: bool,
    top: i32,
}

impl Placed<'_> {
    fn height(&self) -> i32 {
        HEADING + self.legend.height() + PLOT + self.below()
    }

    /// The room of the axis.
    fn below(&self) -> i32 {
        match (self.has_axis, self.panel.x.is_empty()) {
            (false, _) => 0,
            (true, true) => TICKS,
            (true, false) => TICKS + LINE,
        }
    }
}

impl<'a> Layout<'a> {
    fn new(picture: &'a Picture) -> Layout<'a> {
        let subtitle = wrapped(&picture.subtitle, WIDTH - 2 * MARGIN);
        let legends: Vec<_> = picture.panels.iter().map(Legend::new).collect();
        let mut shown = legends.iter().filter(|legend| !legend.is_empty());
        let first = shown.next().cloned().unwrap_or_default();
        let is_shared = shown.all(|legend| legend.is_like(&first));
        let legend = if is_shared { first } else { Legend::default() };
        let lines = TITLE + subtitle.len() as i32 * LINE;
        let mut top = MARGIN + lines + legend.height() + GAP;
        let mut panels = Vec::new();
        for (at, panel) in picture.panels.iter().enumerate() {
            let sharing = &picture.panels[at..];
            let labelled = sharing.iter().position(|panel| !panel.x.is_empty());
            let last = labelled.unwrap_or(sharing.len() - 1);
            let shared = first_of_axis(&picture.panels, at)..=at + last;
            let has_axis = last == 0;
            let legend = if is_shared {
                Legend::default()
            } else {
                legends[at].clone()
            };
            let axis = Axis::below(&picture.panels[shared]);
            let placed = Placed {
                panel,
                legend,
                axis,
                has_axis,
                top,
            };
            top += placed.height() + GAP;
            panels.push(placed);
        }
        Layout {
            subtitle,
            legend,
            panels,
            height: top + MARGIN - GAP,
        }
    }
}

/// The first panel of those that share an axis with this one.
fn first_of_axis(panels: &[Panel], at: usize) -> usize {
    let labelled = panels[..at].iter().rposition(|panel| !panel.x.is_empty());
    labelled.map_or(0, |at| at + 1)
}

fn draw(picture: &Picture, layout: &Layout<'_>, area: &Area<'_>) -> Drawn {
    area.fill(&WHITE)?;
    let title = ("sans-serif", TITLE_SIZE, FontStyle::Bold).into_font();
    area.draw(&Text::new(clean(&picture.title), (MARGIN, MARGIN), title))?;
    let mut top = MARGIN + TITLE;
    for line in &layout.subtitle {
        let font = ("sans-serif", TEXT_SIZE).into_font().color(&GREY);
        area.draw(&Text::new(line.clone(), (MARGIN, top), font))?;
        top += LINE;
    }
    layout.legend.draw(area, top)?;
    for placed in &layout.panels {
        let size = (WIDTH as u32, placed.height() as u32);
        let part = area.clone().shrink((0, placed.top), size);
        panel::draw(placed, &part)?;
    }
    Ok(())
}

/// Lines of words, none wider than `width` if it has several words.
fn wrapped(text: &str, width: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in clean(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if width_of(line) + width_of(word) + width_of(" ") <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// How wide a text is at most: no font is asked, since the reader's is not known.
fn width_of(text: &str) -> i32 {
    text.chars().count() as i32 * CHARACTER
}

/// Colours that most people tell apart, whatever they see (Okabe and Ito 2008), without yellow,
/// which is too pale for a line on white.
pub(crate) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
const GREY: RGBColor = RGBColor(90, 90, 90);

/// A pixel, in units of the drawing: whole ones are too coarse for a line that rises slowly.
const PX: i32 = 8;
const WIDTH: i32 = 1000 * PX;
const MARGIN: i32 = 20 * PX;
const TITLE: i32 = 30 * PX;
const LINE: i32 = 19 * PX;
/// The title of a panel.
const HEADING: i32 = 24 * PX;
const PLOT: i32 = 180 * PX;
/// The numbers below a panel.
const TICKS: i32 = 22 * PX;
/// Between panels.
const GAP: i32 = 14 * PX;
/// Left of a panel, for its numbers.
const LEFT: i32 = 52 * PX;
/// Sizes of fonts; the backend divides by 1.24.
const TITLE_SIZE: i32 = 23 * PX;
const HEADING_SIZE: i32 = 17 * PX;
const TEXT_SIZE: i32 = 16 * PX;
/// The widest usual font has 0.6 of its size a character.
const CHARACTER: i32 = 8 * PX;

const STYLE: &str = "\
body{font:15px/1.5 sans-serif;max-width:1000px;margin:24px auto;padding:0 12px;color:#222}\
svg{max-width:100%;height:auto}table{border-collapse:collapse}\
th,td{padding:4px 14px 4px 0;text-align:left;border-bottom:1px solid #ddd}";

#[cfg(test)]
mod tests;
