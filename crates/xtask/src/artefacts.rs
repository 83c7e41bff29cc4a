//! What is generated from the code and committed: the OpenAPI document, the command line's reference, the settings.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use clap::Command;

/// Every artefact: where it belongs and what it holds.
fn all() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let openapi = format!("{}\n", serde_json::to_string_pretty(&weft_server::openapi_document())?);
    let settings = format!(
        "# Settings\n\nGenerated from the server's compiled-in defaults by `cargo run -p weft-xtask -- generate`.\n\n```toml\n{}```\n",
        weft_server::DEFAULT_SETTINGS
    );
    Ok(vec![
        (PathBuf::from("docs/reference/openapi.json"), openapi),
        (PathBuf::from("docs/reference/cli.md"), command_line()),
        (PathBuf::from("docs/reference/settings.md"), settings),
        (PathBuf::from("docs/reference/manifest.schema.json"), weft_model::manifest::SCHEMA.to_owned()),
    ])
}

/// Writes every artefact.
pub fn write(root: &Path) -> anyhow::Result<()> {
    for (path, content) in all()? {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A line for each artefact that differs from what would be generated.
pub fn stale(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for (path, content) in all()? {
        if fs::read_to_string(root.join(&path)).unwrap_or_default() != content {
            problems
                .push(format!("{} is stale: run `cargo run -p weft-xtask -- generate` and commit the result", path.display()));
        }
    }
    Ok(problems)
}

fn command_line() -> String {
    let mut text = String::from("# Command line\n\nGenerated from the program by `cargo run -p weft-xtask -- generate`.\n");
    let mut command = weft_cli::command();
    command.build();
    describe(&mut text, &mut command.term_width(100), "");
    text
}

fn describe(text: &mut String, command: &mut Command, parent: &str) {
    let name = format!("{parent}{}", command.get_name());
    // What the variables hold on this machine does not belong into the page.
    let help = command.clone().mut_args(|argument| argument.hide_env_values(true)).render_long_help().to_string();
    let _ = write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end());
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").cloned().collect();
    for sub in subcommands {
        describe(text, &mut sub.term_width(100), &format!("{name} "));
    }
}
