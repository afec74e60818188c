//! A figure as SVG text: how many customers bought again how often, beside what the model expects.

use super::bgnbd::Frequencies;

const WIDTH: f64 = 640.0;
const PANEL_HEIGHT: f64 = 320.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const ACTUAL: &str = "#35618e";
const EXPECTED: &str = "#e0a030";

/// One panel for each title, below each other. The same figures give the same text.
pub fn svg(panels: &[(String, Frequencies)]) -> String {
    let height = PANEL_HEIGHT * panels.len().max(1) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, (title, frequencies)) in panels.iter().enumerate() {
        panel(&mut text, PANEL_HEIGHT * number as f64, title, frequencies);
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, top: f64, title: &str, frequencies: &Frequencies) {
    let Frequencies { actual, expected } = frequencies;
    let most = actual.iter().chain(expected).copied().fold(1.0, f64::max);
    let (plot_height, floor) = (PANEL_HEIGHT - TOP - BOTTOM, top + PANEL_HEIGHT - BOTTOM);
    let group = (WIDTH - LEFT - RIGHT) / actual.len().max(1) as f64;
    let bar = group * 0.38;
    let mut line = |element: String| {
        text.push_str(&element);
        text.push('\n');
    };
    line(format!("<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\">{}</text>", top + 22.0, escaped(title)));
    for (offset, colour, name) in [(0.0, ACTUAL, "actual"), (90.0, EXPECTED, "expected")] {
        let (x, y) = (LEFT + offset, top + 32.0);
        line(format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            x + 14.0,
            y + 9.0
        ));
    }
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let y = floor - share * plot_height;
        line(format!("<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>", WIDTH - RIGHT));
        line(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>", LEFT - 6.0, y + 4.0, share * most));
    }
    for (count, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let x = LEFT + group * count as f64 + group * 0.1;
        for (x, value, colour, name) in [(x, actual, ACTUAL, "actual"), (x + bar, expected, EXPECTED, "expected")] {
            let height = value / most * plot_height;
            line(format!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"{height:.1}\" fill=\"{colour}\"><title>{name}: {value:.1}</title></rect>",
                floor - height
            ));
        }
        let label = if count + 1 == frequencies.actual.len() { format!("{count}+") } else { count.to_string() };
        line(format!("<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", x + bar, floor + 16.0));
    }
    line(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">repeat purchase days of a customer</text>", WIDTH / 2.0, floor + 34.0));
}

/// A text between tags.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            control if control.is_control() => escaped.extend(control.escape_default()),
            plain => escaped.push(plain),
        }
    }
    escaped
}
