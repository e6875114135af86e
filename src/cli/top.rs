//! `shunt top`: what happens now, on a whole screen, anew every second.
//!
//! ```text
//! terminal ── key ──► model (which sheet, sorted how, filtered by what) ──► draw ──► terminal
//! daemon ─ reading ─► rates ─────────────────────────────────────────────────┘
//! ```
//!
//! The model knows no terminal and the drawing no daemon: both are tested without. A daemon that does not
//! answer is said so in the last line, and asked again with the next turn.

use std::io;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::rates::{Rates, Reading};
use super::request::{RequestError, Socket};

mod draw;
mod model;

use model::{Key, Model, Step};

/// How often the screen is drawn again at the most while nothing is typed.
const LOOK: Duration = Duration::from_millis(100);

/// Runs until the user leaves.
pub fn run(socket: &Socket, interval: Duration) -> Result<(), RequestError> {
    // The first question outside, so that what is wrong is said as every other command says it.
    let first = Reading::take(socket)?;
    let mut terminal = ratatui::try_init().map_err(RequestError::Output)?;
    let ended = Screen::new(first).live(socket, interval, &mut terminal);
    ratatui::try_restore().map_err(RequestError::Output)?;
    ended.map_err(RequestError::Output)
}

/// What is known, and how it is looked at.
struct Screen {
    model: Model,
    before: Reading,
    rates: Rates,
    trouble: Option<String>,
}

impl Screen {
    fn new(first: Reading) -> Self {
        let rates = Rates::between(&first, &first);
        Self { model: Model::default(), before: first, rates, trouble: None }
    }

    fn live(
        mut self,
        socket: &Socket,
        interval: Duration,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> io::Result<()> {
        let mut next = Instant::now() + interval;
        loop {
            let status = self.before.status();
            terminal.draw(|frame| {
                draw::screen(frame, &self.model, &self.rates, status, self.trouble.as_deref());
            })?;
            let wait = next.saturating_duration_since(Instant::now()).min(LOOK);
            if event::poll(wait)?
                && let Some(key) = key(&event::read()?)
                && self.model.press(key, &self.rates) == Step::Leave
            {
                return Ok(());
            }
            if Instant::now() >= next {
                next = Instant::now() + interval;
                self.look(socket);
            }
        }
    }

    fn look(&mut self, socket: &Socket) {
        if self.model.is_paused {
            return;
        }
        match Reading::take(socket) {
            Ok(now) => {
                self.rates = Rates::between(&self.before, &now);
                (self.before, self.trouble) = (now, None);
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }
}

/// A key that was pressed, if it was one.
fn key(event: &Event) -> Option<Key> {
    let Event::Key(pressed) = event else { return None };
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Leave),
        KeyCode::Char(letter) => Some(Key::Letter(letter)),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Backspace => Some(Key::Backspace),
        KeyCode::Tab => Some(Key::Tab),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::Left => Some(Key::Left),
        KeyCode::Right => Some(Key::Right),
        _ => None,
    }
}
