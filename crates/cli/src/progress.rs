//! The steps of a long command: a spinner or bar while one runs, one line with its time when it ends.
//!
//! Without a terminal only the closing lines appear; with `--json` nothing does. A step that is dropped before
//! [`Step::done`] is shown as failed.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, Paint};

/// One running step.
pub struct Step {
    label: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
    output: Output,
    outcome: Option<String>,
}

impl Step {
    /// Starts a step of unknown length.
    pub fn begin(output: &Output, label: &'static str) -> Self {
        Self::start(output, label, || ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed:.dim}")))
    }

    /// Starts a step that moves `total` bytes.
    pub fn begin_bytes(output: &Output, label: &'static str, total: u64) -> Self {
        Self::start(output, label, || {
            let template = "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec:.dim}";
            ProgressBar::new(total).with_style(style(template).progress_chars("=> "))
        })
    }

    fn start(output: &Output, label: &'static str, bar: impl FnOnce() -> ProgressBar) -> Self {
        let bar = output.is_interactive().then(|| {
            let bar = bar().with_message(label);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { label, started: Instant::now(), bar, output: output.clone(), outcome: None }
    }

    /// Moves the bar.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// Ends the step; `detail` says what it produced.
    pub fn done(mut self, detail: &str) {
        self.outcome = Some(detail.to_owned());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (paint, mark) = if self.outcome.is_some() { (Paint::Good, "✓") } else { (Paint::Bad, "✗") };
        let detail = self.outcome.as_deref().filter(|detail| !detail.is_empty()).map(|detail| format!("  {detail}"));
        let time = self.output.paint_err(Paint::Dim, &format!("({})", human_duration(self.started.elapsed())));
        let mark = self.output.paint_err(paint, mark);
        self.output.note(&format!("{mark} {}{}  {time}", self.label, detail.unwrap_or_default()));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// `12 ms` below a second, `3.4 s` above.
pub fn human_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    format!("{:.1} s", duration.as_secs_f64())
}
