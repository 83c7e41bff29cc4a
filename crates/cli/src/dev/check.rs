//! The project's own TypeScript compiler, where it has one. Its verdict is information: it never holds a deployment up.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::error::{CliError, Result};

const COMPILER: &str = "node_modules/.bin/tsc";
const SETTINGS: &str = "tsconfig.json";
const MOST_SHOWN: usize = 20;

/// What the compiler objects to.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems {
    pub count: usize,
    /// The first of them, as the compiler words them.
    pub lines: Vec<String>,
}

/// Whether the project in `folder` is meant to be checked and lacks what does it.
pub fn lacks_compiler(folder: &Path) -> bool {
    folder.join(SETTINGS).is_file() && !folder.join(COMPILER).exists()
}

/// Checks the types of the project in `folder`; nothing when all is well or there is no compiler.
pub async fn types(folder: &Path) -> Result<Option<Problems>> {
    let Ok(compiler) = std::fs::canonicalize(folder.join(COMPILER)) else { return Ok(None) };
    if !folder.join(SETTINGS).is_file() {
        return Ok(None);
    }
    let mut command = Command::new(compiler);
    command.args(["--noEmit", "--pretty", "false"]).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| CliError::failed(format!("cannot run {COMPILER}: {error}")))?;
    if output.status.success() {
        return Ok(None);
    }
    Ok(Some(read(&String::from_utf8_lossy(&output.stdout))))
}

fn read(text: &str) -> Problems {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    // A problem begins at the margin; what belongs to it is indented.
    let count = lines.iter().filter(|line| !line.starts_with(char::is_whitespace)).count();
    let mut shown: Vec<String> = lines.iter().take(MOST_SHOWN).map(|line| (*line).to_owned()).collect();
    if lines.len() > MOST_SHOWN {
        shown.push("…".to_owned());
    }
    Problems { count, lines: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_belong_to_their_problem() {
        let problems = read("a.ts(1,2): error TS1: x\n  because y\n\nb.ts(3,4): error TS2: z\n");
        assert_eq!(problems.count, 2);
        assert_eq!(problems.lines.len(), 3);
    }
}
