//! A bar on standard error for work that takes long, if a person watches there.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that is gone when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins one for `total` steps. Without a terminal, or unless `wanted`, it shows nothing.
    pub fn begin(what: &str, total: u64, wanted: bool) -> Progress {
        if !wanted || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}")
            .expect("the template is sound");
        Progress(ProgressBar::new(total).with_style(style).with_message(what.to_string()))
    }

    /// So many more are done.
    pub fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Says what goes on while nobody knows how long it takes; gone when it is dropped.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub fn begin(what: &str) -> Spinner {
        let spinner = ProgressBar::new_spinner().with_message(what.to_string());
        spinner.enable_steady_tick(Duration::from_millis(100));
        Spinner(spinner)
    }

    /// Something else goes on now.
    pub fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
