//! House rules that no other tool checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file with more lines than this wants to be split.
const MAX_LINES: usize = 500;

/// A line for each broken rule.
pub fn problems(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "js/worker/src", "integrations"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut problems = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        problems.extend(rules(&name, &text).into_iter().map(|rule| format!("{name}: {rule}")));
    }
    Ok(problems)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "node_modules" && name != "target" {
            collect(&path, files)?;
        } else if is(&path, "rs") || is(&path, "ts") {
            files.push(path);
        }
    }
    Ok(())
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn rules(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !name.contains("/tests/") {
        broken.push(format!("{lines} lines: split it below {MAX_LINES}"));
    }
    let code = is(Path::new(name), "rs") && !name.contains("/tests/") && !name.contains("/tidy.rs");
    if code && !text.starts_with("//!") {
        broken.push("a module begins with //! and says what it is for".to_owned());
    }
    if code && text.contains("#[allow(") {
        broken.push("write #[expect(…, reason = …)] instead of #[allow(…)]".to_owned());
    }
    let sql = text.contains("sqlx::query") && name.starts_with("crates/server/src/");
    if sql && !["store.rs", "db/mod.rs", "db/notify.rs", "idempotency.rs"].iter().any(|place| name.ends_with(place)) {
        broken.push("SQL belongs in the slice's store.rs".to_owned());
    }
    if name.starts_with("crates/server/src/") && name.ends_with("store.rs") && text.contains("crate::http") {
        broken.push("a store knows nothing of HTTP".to_owned());
    }
    broken
}
