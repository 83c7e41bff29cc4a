//! Where text goes: results to stdout, everything else to stderr, colours only on a terminal.
//!
//! Text that came from a server is stripped of control characters before it reaches a terminal, so that a log line
//! cannot move the cursor or rewrite what was printed. A closed pipe surfaces as [`CliError::Output`].

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::error::{CliError, Problem, Result};

/// What the process's streams can show.
#[derive(Clone)]
pub struct Output {
    mode: Mode,
    colour_out: bool,
    colour_err: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Json,
    Plain,
    Interactive,
}

/// A colour by meaning.
#[derive(Clone, Copy)]
pub enum Paint {
    Good,
    Bad,
    Warn,
    Dim,
    Bold,
}

impl Output {
    pub fn detect(json: bool) -> Self {
        let colours_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = io::stderr().is_terminal();
        let mode = match (json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Interactive,
            (false, false) => Mode::Plain,
        };
        Self { mode, colour_out: colours_wanted && io::stdout().is_terminal(), colour_err: colours_wanted && terminal }
    }

    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Whether stderr can show moving progress.
    pub fn is_interactive(&self) -> bool {
        self.mode == Mode::Interactive
    }

    /// Prints a result: the value as one line with `--json`, else the text made for people.
    pub fn show(&self, value: &Value, human: impl FnOnce() -> String) -> Result<()> {
        let text = if self.is_json() { value.to_string() } else { human() };
        print_line(&text)
    }

    /// Tells the person something on stderr; silent with `--json`.
    pub fn note(&self, text: &str) {
        if !self.is_json() {
            write_err(text);
        }
    }

    /// Tells the person on stderr what the server says of things besides, each sentence once; silent with `--json`, which holds it.
    pub fn notes<'a>(&self, notes: impl IntoIterator<Item = Option<&'a str>>) {
        for note in notes.into_iter().flatten().collect::<std::collections::BTreeSet<_>>() {
            self.note(&printable(note));
        }
    }

    /// Tells the person on stderr what has to be done for the command to go on; with `--json` as a value, because a program
    /// has to learn of it too.
    pub fn prompt(&self, value: &Value, human: impl FnOnce() -> String) {
        write_err(&if self.is_json() { value.to_string() } else { human() });
    }

    /// Reports why the command failed.
    pub fn error(&self, error: &CliError) {
        if error.is_closed_pipe() {
            return;
        }
        if self.is_json() {
            return write_err(&error.to_json().to_string());
        }
        write_err(&format!("{} {}", self.paint_err(Paint::Bad, "error:"), printable(&error.to_string())));
        if let CliError::Problem(problem) = error {
            write_problem(problem);
        }
        if let Some(hint) = error.hint() {
            write_err(&format!("{} {}", self.paint_err(Paint::Warn, "hint:"), printable(&hint)));
        }
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_out, paint, text)
    }

    pub fn paint_err(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_err, paint, text)
    }
}

/// Prints one line on stdout.
pub fn print_line(text: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}").map_err(CliError::Output)
}

fn write_problem(problem: &Problem) {
    for field in &problem.errors {
        let path = if field.path.is_empty() { "(input)" } else { &field.path };
        write_err(&printable(&format!("  {path}: {}", field.message)));
    }
    if let Some(trace_id) = &problem.trace_id {
        write_err(&printable(&format!("  trace {trace_id}")));
    }
    if let Some(run_id) = &problem.run_id {
        write_err(&printable(&format!("  run {run_id} (details: weft runs show {run_id})")));
    }
}

fn write_err(text: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn coloured(enabled: bool, paint: Paint, text: &str) -> String {
    if !enabled {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Good => 32,
        Paint::Bad => 31,
        Paint::Warn => 33,
        Paint::Dim => 2,
        Paint::Bold => 1,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// The text without control characters other than line breaks and tabs.
pub fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control() || matches!(character, '\n' | '\t')).collect()
}

/// Pretty JSON for people.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Columns padded to their widest cell, two spaces apart; the last one is not padded.
pub fn table<const COLUMNS: usize>(headers: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize, header: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| printable(cell).chars().count());
        cells.max().unwrap_or(0).max(header.len())
    };
    let widths: Vec<usize> = headers.iter().enumerate().map(|(column, header)| width(column, header)).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", printable(cell).replace('\n', " ")));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let header = line(&headers.map(str::to_owned));
    std::iter::once(header).chain(rows.iter().map(|row| line(row))).collect::<Vec<_>>().join("\n")
}

/// Date and time to the second; the server writes UTC.
pub fn moment(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").chars().take(19).collect::<String>().replace('T', " ")
}

/// A size as people say it.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\r\nd"), "a[2Jb\tc\nd");
    }

    #[test]
    fn table_columns_line_up() {
        let rows = [["a".into(), "x".into()], ["longer".into(), "y".into()]];
        assert_eq!(table(["ID", "NAME"], &rows), "ID      NAME\na       x\nlonger  y");
    }
}
