//! How far a long preparation is, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// From so many on it takes long enough to be asked.
const LONG: u32 = 1_000_000;

/// A bar on standard error, if that is a terminal and there is something to wait for.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar that ends at `total`.
    pub(crate) fn new(what: &'static str, total: u32) -> Self {
        let bar = if total < LONG { ProgressBar::hidden() } else { ProgressBar::new(total.into()) };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
        Self(
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_message(what),
        )
    }

    /// So much is done.
    pub(crate) fn at(&self, position: u32) {
        self.0.set_position(position.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
