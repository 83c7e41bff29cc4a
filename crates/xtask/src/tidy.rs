//! House rules that no other tool checks.

use std::{
    collections::BTreeMap,
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
    let mut schemas = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        problems.extend(rules(&name, &text).into_iter().map(|rule| format!("{name}: {rule}")));
        for schema in schemas_in(&text) {
            // The document holds one of them, whichever comes last.
            if let Some(other) = schemas.insert(schema.clone(), name.clone()) {
                problems.push(format!("{name}: the API's document has a schema {schema} already, from {other}"));
            }
        }
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

/// What the types of a file are called in the API's document.
fn schemas_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // What the attributes seen so far say of the type that follows them.
    let (mut described, mut renamed) = (false, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            described |= line.starts_with("#[derive(") && line.contains("ToSchema");
            let name = line.split_once("schema(as = ").map(|(_, rest)| rest.trim_end_matches([')', ']']).to_owned());
            renamed = name.or(renamed);
            continue;
        }
        let name = ["struct ", "enum "].iter().find_map(|kind| line.split_once(kind)).map(|(_, rest)| rest);
        let name = name.map(|rest| rest.chars().take_while(|letter| letter.is_alphanumeric()).collect::<String>());
        // In a macro the name is not there yet.
        if let (true, Some(name)) = (described, name.filter(|name| !name.is_empty())) {
            found.push(renamed.take().unwrap_or(name));
        }
        if !line.starts_with("//") {
            (described, renamed) = (false, None);
        }
    }
    found
}
