//! `weft init`: a new project folder whose backend answers at once after `weft deploy`.

use std::fs;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Context, types};
use crate::error::{CliError, Result};
use crate::manifest::Manifest;

/// The types of the worker's globals, for editors.
const GLOBALS: &str = include_str!("../../../../js/worker/globals.d.ts");
const LONGEST_NAME: usize = 63;

#[derive(Args)]
pub struct Arguments {
    /// Name of the project, its folder and its app id
    name: String,
    /// What to make
    #[arg(long = "type", value_enum, default_value_t = Kind::Integration)]
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Actions and webhooks that others use
    Integration,
    /// A backend with methods of its own
    App,
}

impl Kind {
    /// Paths and templates of the files that differ by kind.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Integration => &[
                ("manifest.json", include_str!("../../templates/integration/manifest.json")),
                ("backend/index.ts", include_str!("../../templates/integration/index.ts")),
                ("test/hello.test.ts", include_str!("../../templates/integration/hello.test.ts")),
                ("README.md", include_str!("../../templates/integration/README.md")),
            ],
            Self::App => &[
                ("manifest.json", include_str!("../../templates/app/manifest.json")),
                ("backend/index.ts", include_str!("../../templates/app/index.ts")),
                ("test/ping.test.ts", include_str!("../../templates/app/ping.test.ts")),
                ("README.md", include_str!("../../templates/app/README.md")),
            ],
        }
    }

    fn first_call(self, name: &str) -> String {
        match self {
            Self::Integration => format!(r#"weft call {name} hello '{{"name":"Ada"}}'"#),
            Self::App => format!("weft rpc {name} ping"),
        }
    }
}

const PACKAGE: (&str, &str) = ("package.json", include_str!("../../templates/common/package.json"));
const COMMON_FILES: [(&str, &str); 3] = [
    ("tsconfig.json", include_str!("../../templates/common/tsconfig.json")),
    (".gitignore", include_str!("../../templates/common/gitignore")),
    ("backend/weft.d.ts", GLOBALS),
];

pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let name = arguments.name.as_str();
    check_name(name)?;
    let folder = Path::new(name);
    refuse_occupied(folder)?;
    let files: Vec<_> = arguments.kind.files().iter().chain([&PACKAGE]).chain(&COMMON_FILES).copied().collect();
    for (path, template) in &files {
        write(&folder.join(path), &fill(template, name))?;
    }
    let mut paths: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    if types::write(folder, &Manifest::load(folder)?.document)? {
        paths.push(types::FILE);
    }
    context.output.show(&json!({ "name": name, "folder": name, "files": paths }), || {
        let made: Vec<String> = paths.iter().map(|path| format!("  {name}/{path}")).collect();
        format!("Made {name}:\n{}", made.join("\n"))
    })?;
    let call = arguments.kind.first_call(name);
    context.output.note(&format!("\nNext:\n  cd {name}\n  weft test\n  weft login          (once per server)\n  weft dev            (deploys, and again with every change)\n  {call}"));
    Ok(())
}

/// Writes what every project has but its package.json.
pub(super) fn write_common(folder: &Path) -> Result<()> {
    COMMON_FILES.iter().try_for_each(|(path, text)| write(&folder.join(path), text))
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let rest_is_fine = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts_well && rest_is_fine && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let rule = "a name starts with a lower-case letter and goes on with lower-case letters, digits and '_', up to 63 in all";
    Err(CliError::usage(format!("{name:?} cannot be a project name")).with_hint(rule))
}

pub(super) fn refuse_occupied(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if folder.is_file() {
        return Err(CliError::usage(format!("{shown} is a file")).with_hint("choose another name"));
    }
    let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(
            CliError::usage(format!("the folder {shown} is not empty")).with_hint("choose another name, or empty it first")
        );
    }
    Ok(())
}

pub(super) fn write(path: &Path, content: &str) -> Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, content));
    written.map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
}

fn fill(template: &str, name: &str) -> String {
    template.replace("__NAME__", name).replace("__TITLE__", &title(name)).replace("__SECRET__", &name.to_ascii_uppercase())
}

/// `my_crm` as people read it: `My crm`.
fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
