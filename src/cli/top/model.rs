//! What of the rates is looked at, and how keys change that.

use crate::cli::rates::Rates;
use crate::cli::rates::sheet::{self, Cell, Sheet};

/// What there is to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Services,
    Backends,
    Workers,
    Ports,
    Drops,
}

impl View {
    /// In the order of the digits that choose them.
    pub(super) const ALL: [Self; 5] =
        [Self::Services, Self::Backends, Self::Workers, Self::Ports, Self::Drops];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Backends => "backends",
            Self::Workers => "workers",
            Self::Ports => "ports",
            Self::Drops => "drops",
        }
    }

    fn sheet(self, rates: &Rates) -> Sheet {
        match self {
            Self::Services => sheet::services(rates),
            Self::Backends => sheet::backends(rates),
            Self::Workers => sheet::workers(rates),
            Self::Ports => sheet::ports(rates),
            Self::Drops => sheet::drops(rates),
        }
    }

    /// The column that matters most: what is sorted by, the most first, until told otherwise.
    fn sorted_by(self) -> usize {
        match self {
            Self::Services => 4,
            Self::Backends => 5,
            Self::Workers => 2,
            Self::Ports | Self::Drops => 1,
        }
    }
}

/// A key, as far as there is a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Escape,
    Enter,
    Backspace,
    Tab,
    Up,
    Down,
    Left,
    Right,
    Leave,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Leave,
}

/// How the rates are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) view: View,
    /// The column rows are sorted by.
    pub(super) sort: usize,
    /// The least first?
    pub(super) is_ascending: bool,
    /// Only rows that have this somewhere.
    pub(super) filter: String,
    /// Are letters typed part of the filter?
    pub(super) is_typing: bool,
    /// Does the screen stand still?
    pub(super) is_paused: bool,
    /// Rows above the first that is shown.
    pub(super) above: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            view: View::default(),
            sort: View::default().sorted_by(),
            is_ascending: false,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            above: 0,
        }
    }
}

impl Model {
    /// What a key does.
    pub(super) fn press(&mut self, key: Key, rates: &Rates) -> Step {
        if key == Key::Leave {
            return Step::Leave;
        }
        if self.is_typing {
            self.type_filter(key);
            return Step::Stay;
        }
        let columns = self.view.sheet(rates).headings.len();
        match key {
            Key::Letter('q') => return Step::Leave,
            Key::Letter('/') => self.is_typing = true,
            Key::Letter(' ') => self.is_paused = !self.is_paused,
            Key::Letter('r') => self.is_ascending = !self.is_ascending,
            Key::Letter(digit @ '1'..='9') => self.choose(digit),
            Key::Tab => self.next_view(),
            Key::Right | Key::Letter('>') => self.sort = (self.sort + 1) % columns.max(1),
            Key::Left | Key::Letter('<') => {
                self.sort = (self.sort + columns.max(1) - 1) % columns.max(1);
            }
            Key::Down => self.above = (self.above + 1).min(self.rows(rates).len().max(1) - 1),
            Key::Up => self.above = self.above.saturating_sub(1),
            Key::Escape => self.set_filter(String::new()),
            _ => {}
        }
        Step::Stay
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) => self.set_filter(format!("{}{letter}", self.filter)),
            Key::Backspace => {
                self.filter.pop();
                self.above = 0;
            }
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.set_filter(String::new());
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        (self.filter, self.above) = (filter, 0);
    }

    fn choose(&mut self, digit: char) {
        let place = digit.to_digit(10).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if let Some(view) = place.checked_sub(1).and_then(|place| View::ALL.get(place)) {
            self.show(*view);
        }
    }

    fn next_view(&mut self) {
        let place = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(place + 1) % View::ALL.len()]);
    }

    /// Another sheet: its own order, the same filter.
    fn show(&mut self, view: View) {
        (self.view, self.sort, self.is_ascending, self.above) = (view, view.sorted_by(), false, 0);
    }

    /// The headings of what is looked at.
    pub(super) fn headings(&self, rates: &Rates) -> &'static [&'static str] {
        self.view.sheet(rates).headings
    }

    /// The rows that pass the filter, in order.
    pub(super) fn rows(&self, rates: &Rates) -> Vec<Vec<Cell>> {
        let wanted = self.filter.to_lowercase();
        let mut rows = self.view.sheet(rates).rows;
        rows.retain(|row| row.iter().any(|cell| cell.plain().to_lowercase().contains(&wanted)));
        rows.sort_by(|one, another| {
            let of = |row: &Vec<Cell>| row.get(self.sort).cloned().unwrap_or(Cell::Nothing);
            let order = of(one).order(&of(another));
            if self.is_ascending { order } else { order.reverse() }
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rates::{DropRates, PassedRates, ServiceRates};

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
        Rates {
            seconds: 1.0,
            services: vec![
                service("web", 9, 5.0),
                service("mail", 10, 50.0),
                service("dns", 8, 7.0),
            ],
            drops: vec![DropRates {
                reason: "no_service".into(),
                packets: 1.0,
                total: 7,
                meaning: "No service is configured.".into(),
            }],
            ..Rates::default()
        }
    }

    fn pressed(keys: &[Key]) -> Model {
        let mut model = Model::default();
        for key in keys {
            assert_eq!(model.press(*key, &rates()), Step::Stay, "{key:?}");
        }
        model
    }

    fn typed(text: &str) -> Vec<Key> {
        text.chars().map(Key::Letter).collect()
    }

    /// First cells.
    fn names(model: &Model) -> Vec<String> {
        model.rows(&rates()).iter().map(|row| row[0].plain()).collect()
    }

    #[test]
    fn the_busiest_are_first_until_told_otherwise() {
        assert_eq!(names(&pressed(&[])), ["mail", "dns", "web"]);
        assert_eq!(names(&pressed(&typed("r"))), ["web", "dns", "mail"]);
        let by_connections = [Key::Left];
        assert_eq!(names(&pressed(&by_connections)), ["mail", "web", "dns"], "10 is more than 9");
        let by_name = [&[Key::Right; 6][..], &[Key::Letter('r')]].concat();
        assert_eq!(names(&pressed(&by_name)), ["dns", "mail", "web"]);
    }

    #[test]
    fn a_filter_is_typed_kept_and_forgotten() {
        let mut keys = typed("/WE");
        assert_eq!(names(&pressed(&keys)), ["web"], "large or small");
        keys.push(Key::Backspace);
        keys.extend(typed("q1"));
        assert!(names(&pressed(&keys)).is_empty(), "letters are no commands while it is typed");
        keys.extend([Key::Backspace, Key::Backspace, Key::Enter]);
        let model = pressed(&keys);
        assert_eq!((model.filter.as_str(), model.is_typing), ("W", false));
        assert_eq!(names(&model), ["web"]);
        keys.push(Key::Escape);
        assert_eq!(names(&pressed(&keys)).len(), 3);
    }

    #[test]
    fn digits_and_tab_choose_what_is_looked_at_and_each_has_an_order() {
        for (digit, view) in ('1'..).zip(View::ALL) {
            let model = pressed(&[Key::Letter(digit)]);
            assert_eq!((model.view, model.sort), (view, view.sorted_by()));
            let headings = model.headings(&rates());
            assert!(model.sort < headings.len(), "{headings:?}");
        }
        let round = vec![Key::Tab; View::ALL.len()];
        assert_eq!(pressed(&round).view, View::Services);
        assert_eq!(pressed(&[Key::Letter('9')]).view, View::Services, "there is no ninth");
        assert_eq!(names(&pressed(&[Key::Letter('5')])), ["no_service"]);
    }

    #[test]
    fn one_cannot_scroll_past_the_last_row() {
        assert_eq!(pressed(&[Key::Down; 9]).above, 2);
        assert_eq!(pressed(&[Key::Down, Key::Up, Key::Up]).above, 0);
    }

    #[test]
    fn q_and_control_c_leave() {
        let mut model = Model::default();
        assert_eq!(model.press(Key::Letter('q'), &rates()), Step::Leave);
        model.press(Key::Letter('/'), &rates());
        assert_eq!(model.press(Key::Leave, &rates()), Step::Leave, "while typing, too");
    }
}
