//! How far something is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    said: String,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(1).with_style(style)
        });
        Self { bar, said: String::new() }
    }

    /// So much of it all is done.
    pub(super) fn at(&mut self, done: u64, all: u64, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_length(all.max(1));
            bar.set_position(done);
            bar.set_message(what);
        } else if self.said != what {
            eprintln!("roundelay: {what}");
            self.said = what;
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
