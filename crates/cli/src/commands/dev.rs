//! `weft dev`: a project that is live again moments after each saved file, with everything it does on the screen.
//!
//! Mistakes in the project are told and waited out; only what no edit can mend (no login, no server, no permission) ends it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Context;
use super::deploy::After;
use super::requirements::config_command;
use crate::client::Client;
use crate::dev::check::{self, Problems};
use crate::dev::follow::follow;
use crate::dev::release::{Release, Releaser};
use crate::dev::view::View;
use crate::dev::watch::{Change, Watch};
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::output::{Output, Paint, print_line, printable};
use crate::progress::human_duration;

/// Things that may wait for the screen.
const QUEUE: usize = 1024;

#[derive(Args)]
pub struct Arguments {
    /// Project folder: the one with manifest.json
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What the screen has to show or the loop to act on.
enum Happening {
    Changed(Change),
    Checked(Result<Option<Problems>>),
    Logged(String),
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let manifest = Manifest::load(&arguments.folder)?;
    let client = context.authorized()?;
    let (happen, happenings) = mpsc::channel(QUEUE);
    let changes = happen.clone();
    // Begun before the first deployment, so that a file saved meanwhile is not missed.
    let _watch = Watch::start(&arguments.folder, move |change| changes.blocking_send(Happening::Changed(change)).is_ok())?;
    let mut session = Session {
        output: &context.output,
        folder: &arguments.folder,
        releaser: Releaser::new(&client, &arguments.folder),
        happen: happen.clone(),
        checking: None,
        view: View::new(context.output.clone()),
    };
    session.release(&Change { paths: Vec::new(), at: Instant::now() }).await?;
    session.welcome(&client, &manifest).await?;
    let lines = follow(&client, &manifest.app_id, |line| happen.send(Happening::Logged(line)));
    tokio::select! {
        ended = session.run(happenings) => ended,
        error = lines => Err(error),
        _ = tokio::signal::ctrl_c() => {
            context.output.note(&format!(
                "\nStopped watching. {} goes on running, and reports its calls to its log until it is deployed with `weft deploy`.",
                manifest.app_id
            ));
            Ok(())
        }
    }
}

struct Session<'a> {
    output: &'a Output,
    folder: &'a Path,
    releaser: Releaser<'a>,
    happen: mpsc::Sender<Happening>,
    checking: Option<JoinHandle<()>>,
    view: View,
}

impl Session<'_> {
    async fn run(&mut self, mut happenings: mpsc::Receiver<Happening>) -> Result<()> {
        while let Some(happening) = happenings.recv().await {
            match happening {
                Happening::Changed(change) => self.release(&change).await?,
                Happening::Checked(problems) => self.show_problems(problems)?,
                Happening::Logged(line) => self.view.line(&line)?,
            }
        }
        Ok(())
    }

    /// Brings the project's current state to the server and says how that went.
    async fn release(&mut self, change: &Change) -> Result<()> {
        self.check();
        match self.releaser.release().await {
            Ok(Release::Unchanged) => Ok(()),
            Ok(Release::Live) => self.show_live(change),
            Err(error) if is_final(&error) => Err(error),
            Err(error) => self.show_failure(&error),
        }
    }

    /// Types are checked beside the deployment; a check of an older state is given up.
    fn check(&mut self) {
        if let Some(checking) = self.checking.take() {
            checking.abort();
        }
        let (folder, happen) = (self.folder.to_owned(), self.happen.clone());
        self.checking = Some(tokio::spawn(async move {
            // Fails only when the command is ending.
            let _ = happen.send(Happening::Checked(check::types(&folder).await)).await;
        }));
    }

    fn show_live(&self, change: &Change) -> Result<()> {
        let took = change.at.elapsed();
        // Editors and tools write to a file beside the real one first.
        let remain = change.paths.iter().filter(|path| self.folder.join(path).exists());
        let files: Vec<String> = remain.map(|path| path.display().to_string()).collect();
        let event = json!({ "event": "live", "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "changed": files });
        self.output.show(&event, || {
            let what = match files.as_slice() {
                [] => String::new(),
                [file] => format!("  {}", printable(file)),
                [file, rest @ ..] => format!("  {} and {} more", printable(file), rest.len()),
            };
            format!("{} live{what}  ({})", self.output.paint(Paint::Good, "✓"), human_duration(took))
        })
    }

    fn show_failure(&self, error: &CliError) -> Result<()> {
        if self.output.is_json() {
            return print_line(
                &json!({ "event": "failed", "problem": error.to_json(), "serving": self.releaser.is_live() }).to_string(),
            );
        }
        self.output.error(error);
        let rest = if self.releaser.is_live() { "the version before goes on serving" } else { "nothing is serving yet" };
        self.output.note(&format!("{} not deployed: {rest}", self.output.paint_err(Paint::Bad, "✗")));
        Ok(())
    }

    fn show_problems(&self, problems: Result<Option<Problems>>) -> Result<()> {
        match problems {
            Ok(None) => Ok(()),
            Ok(Some(problems)) => self.output.show(&json!({ "event": "types", "problems": problems.lines }), || {
                let mark = self.output.paint(Paint::Warn, "!");
                let noun = if problems.count == 1 { "type problem" } else { "type problems" };
                let lines: Vec<String> = problems.lines.iter().map(|line| format!("  {}", printable(line))).collect();
                format!("{mark} {} {noun}\n{}", problems.count, lines.join("\n"))
            }),
            Err(error) => {
                self.output.note(&format!("! types were not checked: {}", printable(&error.to_string())));
                Ok(())
            }
        }
    }

    /// Addresses, what is left to configure, and what happens next.
    async fn welcome(&self, client: &Client, manifest: &Manifest) -> Result<()> {
        let after = After::of(self.output, client, manifest).await;
        let hooks: Vec<Value> =
            after.addresses(client).into_iter().map(|(name, url)| json!({ "name": name, "url": url })).collect();
        if self.output.is_json() {
            return print_line(&json!({ "event": "watching", "appId": manifest.app_id, "webhooks": hooks }).to_string());
        }
        for (name, url) in after.addresses(client) {
            print_line(&format!("  webhook {name}: {url}"))?;
        }
        if !after.configured() {
            self.output.note(&format!(
                "Configuration is missing. In another terminal: {}",
                config_command(&manifest.app_id, after.missing())
            ));
        }
        self.output.note(&format!("Watching {}; stop with Ctrl-C", self.folder.display()));
        Ok(())
    }
}

/// What editing files cannot mend.
fn is_final(error: &CliError) -> bool {
    match error {
        CliError::Problem(problem) => matches!(problem.status, 401 | 403),
        CliError::NotLoggedIn { .. } | CliError::Output(_) | CliError::NoServer { .. } => true,
        CliError::Usage { .. } | CliError::Failed { .. } => false,
    }
}
