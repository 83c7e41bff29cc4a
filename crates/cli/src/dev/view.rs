//! The live log on the screen. Reports of calls become a tree per call, printed when the call is over; other lines appear at once.
//!
//! A report that does not have the expected form is shown as the event that it is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::{Output, Paint, print_line, printable};

/// Said at every deployment, whose outcome is told in a line of its own.
const ROUTINE: [&str; 3] = ["worker started", "replaced worker stopped", "worker could not be started"];
const CRASHED: &str = "worker crashed";

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
}

/// `weft.call`: the beginning or the end of a call.
#[derive(Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
enum Report {
    Begin {
        id: String,
        kind: String,
        #[serde(default)]
        name: String,
        by: Option<String>,
        input: Option<String>,
    },
    End {
        id: String,
        ms: f64,
        output: Option<String>,
        error: Option<Failure>,
    },
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    code: Option<String>,
    category: Option<String>,
}

/// `weft.http`: a request that is over.
#[derive(Deserialize)]
struct Exchange {
    id: Option<String>,
    method: String,
    url: String,
    ms: f64,
    status: Option<u16>,
    error: Option<String>,
}

/// A call that has not ended yet.
struct Open {
    head: String,
    lines: Vec<String>,
}

pub struct View {
    output: Output,
    open: BTreeMap<String, Open>,
}

impl View {
    pub fn new(output: Output) -> Self {
        Self { output, open: BTreeMap::new() }
    }

    /// Shows one line of the log, given as JSON.
    pub fn line(&mut self, data: &str) -> Result<()> {
        let Ok(line) = serde_json::from_str::<Line>(data) else { return print_line(&printable(data)) };
        if self.output.is_json() {
            return print_line(&as_json(&line).to_string());
        }
        if line.level == "event" && self.report(&line.message)? {
            return Ok(());
        }
        if line.level == "system" && ROUTINE.iter().any(|routine| line.message.starts_with(routine)) {
            return Ok(());
        }
        print_line(&format!("{} {}", self.level(&line.level), printable(&line.message)))?;
        if line.level == "system" && line.message.starts_with(CRASHED) { self.abandon() } else { Ok(()) }
    }

    /// False when the message is no report.
    fn report(&mut self, message: &str) -> Result<bool> {
        if let Some(Ok(report)) = message.strip_prefix("weft.call: ").map(serde_json::from_str) {
            self.call(report)?;
            return Ok(true);
        }
        if let Some(Ok(exchange)) = message.strip_prefix("weft.http: ").map(serde_json::from_str) {
            self.exchange(&exchange)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn call(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Begin { id, kind, name, by, input } => {
                let name = self.output.paint(Paint::Bold, &printable(&name));
                let kind = if kind == "action" { String::new() } else { format!("{} ", printable(&kind)) };
                let by = by.map(|by| format!("  {}", printable(&by))).unwrap_or_default();
                let lines = input.map(|input| self.part("in", &input)).into_iter().collect();
                self.open.insert(id, Open { head: format!("{kind}{name}{by}"), lines });
                Ok(())
            }
            Report::End { id, ms, output, error } => {
                // Begun before anybody listened.
                let mut call = self.open.remove(&id).unwrap_or_else(|| Open { head: "(call)".to_owned(), lines: Vec::new() });
                let mark =
                    if error.is_some() { self.output.paint(Paint::Bad, "✗") } else { self.output.paint(Paint::Good, "✓") };
                call.lines.extend(output.map(|output| self.part("out", &output)));
                call.lines.extend(error.map(|error| self.part("error", &error.text())));
                tree(&format!("{mark} {}  {}", call.head, milliseconds(ms)), &call.lines)
            }
        }
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<()> {
        let line = self.part("http", &exchange.text());
        match exchange.id.as_ref().and_then(|id| self.open.get_mut(id)) {
            Some(call) => call.lines.push(line),
            None => print_line(&line)?,
        }
        Ok(())
    }

    /// Calls whose process is gone.
    fn abandon(&mut self) -> Result<()> {
        for call in std::mem::take(&mut self.open).into_values() {
            let mark = self.output.paint(Paint::Bad, "✗");
            tree(&format!("{mark} {}  no answer", call.head), &call.lines)?;
        }
        Ok(())
    }

    fn part(&self, label: &str, text: &str) -> String {
        format!("    {} {}", self.output.paint(Paint::Dim, &format!("{label:<5}")), printable(text))
    }

    fn level(&self, level: &str) -> String {
        let text = format!("{:<6}", printable(level));
        match level {
            "error" => self.output.paint(Paint::Bad, &text),
            "warn" | "stderr" => self.output.paint(Paint::Warn, &text),
            "info" => self.output.paint(Paint::Good, &text),
            _ => self.output.paint(Paint::Dim, &text),
        }
    }
}

fn tree(head: &str, lines: &[String]) -> Result<()> {
    print_line(head)?;
    lines.iter().try_for_each(|line| print_line(line))
}

impl Failure {
    fn text(&self) -> String {
        let kind: Vec<&str> = [&self.code, &self.category].into_iter().filter_map(|part| part.as_deref()).collect();
        if kind.is_empty() { self.message.clone() } else { format!("{} ({})", self.message, kind.join(", ")) }
    }
}

impl Exchange {
    fn text(&self) -> String {
        let outcome = match (self.status, &self.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => "no answer".to_owned(),
        };
        format!("{} {}  {outcome}  {}", self.method, self.url, milliseconds(self.ms))
    }
}

fn milliseconds(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

/// Reports as objects of their own, other lines as they are.
fn as_json(line: &Line) -> Value {
    for name in ["call", "http"] {
        let data = line.message.strip_prefix(&format!("weft.{name}: ")).filter(|_| line.level == "event");
        if let Some(Ok(data)) = data.map(serde_json::from_str::<Value>) {
            return json!({ "event": name, "data": data });
        }
    }
    json!({ "event": "log", "level": line.level, "message": line.message })
}
