//! The screen: the box in three lines, one sheet, the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

use super::model::{Model, View};
use crate::cli::rates::Rates;
use crate::cli::rates::sheet::Cell;
use crate::control::admin::view::Status;

/// Between two columns.
const SPACING: u16 = 2;

/// Draws all of it. `trouble` is why what is shown is old.
pub(super) fn screen(
    frame: &mut Frame<'_>,
    model: &Model,
    rates: &Rates,
    status: &Status,
    trouble: Option<&str>,
) {
    let parts = [Constraint::Length(3), Constraint::Min(2), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(summary(model, rates, status), head);
    sheet(frame, body, model, rates);
    frame.render_widget(last_line(model, trouble), foot);
}

fn summary<'a>(model: &Model, rates: &Rates, status: &'a Status) -> Paragraph<'a> {
    let sum = |of: fn(&crate::cli::rates::PortRates) -> f64| {
        Cell::Rate(rates.ports.iter().map(of).sum()).short()
    };
    let busiest = rates.workers.iter().map(|worker| worker.busy).fold(0.0, f64::max);
    let state = if status.accepting { "accepting" } else { "DRAINING" };
    let facts = &status.facts;
    let first = format!(
        "shuntd {}  generation {}  {state}  {} of {} connections",
        facts.version,
        status.generation,
        Cell::Count(status.connections).short(),
        Cell::Count(facts.table_capacity).short(),
    );
    let second = format!(
        "rx {} pps {} bps  tx {} pps {} bps  busiest worker {}",
        sum(|port| port.rx_packets),
        sum(|port| port.rx_bits),
        sum(|port| port.tx_packets),
        sum(|port| port.tx_bits),
        Cell::Share(busiest).plain(),
    );
    let tab = |(number, view): (usize, View)| {
        let text = format!(" {number} {} ", view.name());
        if view == model.view { Span::from(text).reversed() } else { Span::from(text) }
    };
    let tabs: Line<'_> = (1..).zip(View::ALL).map(tab).collect();
    Paragraph::new(vec![first.into(), second.into(), tabs])
}

fn sheet(frame: &mut Frame<'_>, area: Rect, model: &Model, rates: &Rates) {
    let (headings, rows) = (model.headings(rates), model.rows(rates));
    let shown = |row: &Vec<Cell>| row.iter().map(Cell::short).collect::<Vec<_>>();
    let cells: Vec<Vec<String>> = rows.iter().skip(model.above).map(shown).collect();
    let mut widths: Vec<usize> = (0..headings.len())
        .map(|at| {
            let cell = |row: &Vec<String>| row.get(at).map_or(0, |text| text.chars().count());
            let widest = cells.iter().map(cell).max().unwrap_or(0);
            widest.max(headings[at].chars().count() + 1)
        })
        .collect();
    widths.truncate(fitting(&widths, area.width));
    let headings = headings.get(..widths.len()).unwrap_or_default();
    let right =
        |at: usize| rows.first().is_some_and(|row| row.get(at).is_some_and(Cell::is_number));
    let aligned = |at: usize, text: &str| match widths.get(at) {
        Some(&width) if right(at) => format!("{text:>width$}"),
        _ => text.to_owned(),
    };
    let mark = if model.is_ascending { '^' } else { 'v' };
    let title = |(at, heading): (usize, &&str)| {
        let text = if at == model.sort { format!("{heading}{mark}") } else { (*heading).into() };
        aligned(at, &text)
    };
    let head: Row<'_> = headings.iter().enumerate().map(title).collect();
    let line = |row: &Vec<String>| -> Row<'_> {
        row.iter().take(widths.len()).enumerate().map(|(at, text)| aligned(at, text)).collect()
    };
    let constraint = |width: &usize| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX));
    let table = Table::new(cells.iter().map(line), widths.iter().map(constraint))
        .header(head.style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(SPACING);
    frame.render_widget(table, area);
}

/// How many columns fit, from the left: one at least, however little of it.
fn fitting(widths: &[usize], room: u16) -> usize {
    let mut taken = 0;
    let fits = |width: &&usize| {
        taken += **width + usize::from(SPACING);
        taken <= usize::from(room) + usize::from(SPACING)
    };
    widths.iter().take_while(fits).count().max(1).min(widths.len())
}

fn last_line<'a>(model: &'a Model, trouble: Option<&'a str>) -> Paragraph<'a> {
    let keys = "q quit  1-5 or Tab sheet  < > sort  r reverse  / filter  space pause";
    let line = match trouble {
        Some(trouble) => Line::from(trouble).bold(),
        None if model.is_typing => Line::from(format!("/{}_", model.filter)),
        None if model.is_paused => Line::from(format!("PAUSED  {keys}")),
        None if !model.filter.is_empty() => {
            Line::from(format!("/{}  Esc shows all  {keys}", model.filter))
        }
        None => Line::from(keys),
    };
    Paragraph::new(line)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::rates::{PassedRates, PortRates, ServiceRates, WorkerRates};
    use crate::cli::tables::tests::status_view;

    fn rates() -> Rates {
        let service = |name: &str, connections, new| ServiceRates {
            service: name.into(),
            address: "198.51.100.10:80".into(),
            connections,
            new,
            refused: 0.0,
            passed: PassedRates::default(),
            backends: 2,
        };
        let port = PortRates {
            port: "wan".into(),
            rx_packets: 1_234_567.0,
            rx_bits: 8.1e9,
            tx_packets: 999.0,
            tx_bits: 65_000.0,
            lost_packets: 0.0,
            to_kernel_packets: 0.0,
            from_kernel_packets: 0.0,
        };
        let worker =
            WorkerRates { worker: 0, core: 2, busy: 0.42, connections: 17, stalled: false };
        Rates {
            seconds: 1.0,
            services: vec![service("web", 1234, 5.0), service("mail", 9, 50_321.0)],
            ports: vec![port],
            workers: vec![worker],
            ..Rates::default()
        }
    }

    fn drawn(model: &Model, trouble: Option<&str>) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(78, 8)).unwrap();
        let (rates, status) = (rates(), status_view());
        terminal.draw(|frame| screen(frame, model, &rates, &status, trouble)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..78).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..8).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_screen_as_a_whole() {
        assert_eq!(
            drawn(&Model::default(), None),
            [
                "shuntd 0.1.0  generation 7  accepting  1.23k of 1.00M connections",
                "rx 1.23M pps 8.10G bps  tx 999 pps 65.0k bps  busiest worker 42%",
                " 1 services  2 backends  3 workers  4 ports  5 drops",
                "service   address            backends   connections  new/sv   refused/s",
                "mail      198.51.100.10:80          2             9   50.3k           0",
                "web       198.51.100.10:80          2         1.23k       5           0",
                "",
                "q quit  1-5 or Tab sheet  < > sort  r reverse  / filter  space pause",
            ]
        );
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_said_and_what_was_known_stays() {
        let lines = drawn(&Model::default(), Some("no shuntd answers"));
        assert!(lines[4].starts_with("mail"), "{lines:?}");
        assert_eq!(lines[7], "no shuntd answers");
    }

    #[test]
    fn what_is_typed_is_seen() {
        let model = Model { filter: "ma".into(), is_typing: true, ..Model::default() };
        let lines = drawn(&model, None);
        assert!(lines[4].starts_with("mail") && lines[5].is_empty(), "{lines:?}");
        assert_eq!(lines[7], "/ma_");
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out_from_the_right() {
        for (room, columns) in [(0, 1), (8, 1), (13, 1), (14, 2), (25, 2), (26, 3), (100, 3)] {
            assert_eq!(fitting(&[8, 4, 10], room), columns, "{room}");
        }
        assert_eq!(fitting(&[], 80), 0);
    }

    /// Whatever the size, nothing panics.
    #[test]
    fn any_terminal_will_do() {
        for (width, height) in [(1, 1), (10, 3), (78, 4), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let (rates, status) = (rates(), status_view());
            let model = Model { above: 1, ..Model::default() };
            terminal.draw(|frame| screen(frame, &model, &rates, &status, None)).unwrap();
        }
    }
}
