//! Replicas over time as SVG, on its own: no script, no font, no other file.

use super::Report;
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 28.0;
/// Colours of the autoscalers, told apart by people who see few colours.
const COLOURS: [&str; 2] = ["#0072b2", "#d55e00"];
const GREY: &str = "#888888";

/// One line of the picture: its name, colour, and a value for each step.
struct Line<'a> {
    name: String,
    colour: &'static str,
    dashed: bool,
    values: Box<dyn Fn(usize) -> Option<f64> + 'a>,
}

pub(super) fn draw(report: &Report) -> String {
    let lines = lines(report);
    let count = report.steps.count;
    let top = lines
        .iter()
        .flat_map(|line| (0..count).filter_map(|no| (line.values)(no)))
        .fold(1.0, f64::max);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    );
    axes(&mut out, report, top);
    for (no, line) in lines.iter().enumerate() {
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let x = LEFT + 280.0 * no as f64;
        let _ = writeln!(
            out,
            "<path d=\"M{x} 14h24\" stroke=\"{}\" stroke-width=\"2\"{dash}/><text x=\"{}\" y=\"18\">{}</text>",
            line.colour,
            x + 30.0,
            escaped(&line.name)
        );
        let _ = writeln!(
            out,
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"{dash}/>",
            path(line, count, top),
            line.colour
        );
    }
    out.push_str("</svg>\n");
    out
}

fn lines(report: &Report) -> Vec<Line<'_>> {
    let recorded = report.runs.iter().find_map(|run| run.recorded.as_ref());
    let recorded = recorded.map(|(_, values)| Line {
        name: "recorded".to_owned(),
        colour: GREY,
        dashed: true,
        values: Box::new(move |no: usize| values.get(no).copied().filter(|value| value.is_finite())),
    });
    let runs = report.runs.iter().zip(COLOURS).map(|(run, colour)| Line {
        name: run.name.clone(),
        colour,
        dashed: false,
        values: Box::new(move |no: usize| {
            let value = run.replicas.get(no).filter(|_| no >= run.skipped);
            value.map(|replicas| f64::from(*replicas))
        }),
    });
    recorded.into_iter().chain(runs).collect()
}

fn x(no: usize, count: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * no as f64 / count.max(1) as f64
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top
}

/// A stair: a point only where the value changes, and no more than two in a column of the picture.
fn path(line: &Line<'_>, count: usize, top: f64) -> String {
    let mut out = String::new();
    let mut last: Option<f64> = None;
    let columns = (WIDTH - LEFT - RIGHT) as usize;
    for column in 0..columns.min(count) {
        // The steps that fall into this column; all changes in it are drawn as one upright from least to most.
        let steps = column * count / columns.min(count)..(column + 1) * count / columns.min(count);
        let at = x(steps.start, count);
        let mut known = steps.filter_map(|no| (line.values)(no)).peekable();
        let Some(first) = known.peek().copied() else {
            last = None;
            continue;
        };
        let (mut least, mut most, mut end) = (first, first, first);
        for value in known {
            (least, most, end) = (least.min(value), most.max(value), value);
        }
        match last {
            Some(before) if before == end && least == most => continue,
            Some(_) => {
                let _ = write!(out, "H{at:.1}");
            }
            None => {
                let _ = write!(out, "M{at:.1} {:.1}", y(first, top));
            }
        }
        if least != most {
            let _ = write!(out, "V{:.1}V{:.1}", y(least, top), y(most, top));
        }
        let _ = write!(out, "V{:.1}", y(end, top));
        last = Some(end);
    }
    if last.is_some() {
        let _ = write!(out, "H{:.1}", x(count, count));
    }
    out
}

fn axes(out: &mut String, report: &Report, top: f64) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    // At most eight lines across, at whole numbers.
    let every = (top / 8.0).ceil().max(1.0);
    let mut value = 0.0;
    while value <= top {
        let at = y(value, top);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        );
        value += every;
    }
    let (start, end) = (report.steps.start, report.steps.end());
    for (at, anchor, x) in [(start, "start", LEFT), (end, "end", right)] {
        let text = jiff::Timestamp::from_millisecond(at.millis());
        let text = text.map_or_else(|_| at.millis().to_string(), |text| text.to_string());
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
            bottom + 18.0
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
