//! `weft dev`: a project that is live again moments after each saved file, with everything it does on the screen.
//!
//! Mistakes in the project are told and waited out, and so is a server that goes away; only what neither edits nor patience can
//! mend (no login, no permission, nobody there at the start) ends it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Context;
use super::deploy::After;
use super::requirements::config_command;
use crate::archive::BACKEND;
use crate::client::Client;
use crate::dev::check::{self, Problems};
use crate::dev::follow::{Heard, PAUSE, follow};
use crate::dev::release::{Release, Releaser, Standing};
use crate::dev::view::View;
use crate::dev::watch::{self, Change};
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
    /// The log is followed again, after it broke off.
    Followed,
    /// The server that did not answer may do so now.
    Waited,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let manifest = Manifest::load(&arguments.folder)?;
    let client = context.authorized()?;
    let (happen, happenings) = mpsc::channel(QUEUE);
    let changes = happen.clone();
    // Begun before the first deployment, so that a file saved meanwhile is not missed.
    watch::start(&arguments.folder, move |change| changes.blocking_send(Happening::Changed(change)).is_ok())?;
    let mut session = Session {
        output: &context.output,
        folder: &arguments.folder,
        releaser: Releaser::new(&client, &arguments.folder),
        happen: happen.clone(),
        checking: None,
        view: View::new(context.output.clone()),
        patience: Patience::Ending,
    };
    session.check();
    session.release(Vec::new(), Instant::now()).await?;
    session.welcome(&client, &manifest).await?;
    let lines = follow(&client, &manifest.app_id, |heard| {
        happen.send(match heard {
            Heard::Line(line) => Happening::Logged(line),
            Heard::Again => Happening::Followed,
        })
    });
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
    patience: Patience,
}

/// What happens when no server answers.
enum Patience {
    /// The command ends: there was none from the start.
    Ending,
    /// It is waited for.
    Ready,
    /// It did not when these files were saved, and is asked again.
    Waiting(Vec<PathBuf>),
}

impl Session<'_> {
    async fn run(&mut self, mut happenings: mpsc::Receiver<Happening>) -> Result<()> {
        self.patience = Patience::Ready;
        while let Some(happening) = self.next(&mut happenings).await {
            match happening {
                Happening::Changed(change) => self.changed(change).await?,
                Happening::Checked(problems) => self.show_problems(problems)?,
                Happening::Logged(line) => self.view.line(&line)?,
                Happening::Followed => self.followed().await?,
                Happening::Waited => self.release(Vec::new(), Instant::now()).await?,
            }
        }
        Ok(())
    }

    async fn next(&self, happenings: &mut mpsc::Receiver<Happening>) -> Option<Happening> {
        if !matches!(self.patience, Patience::Waiting(_)) {
            return happenings.recv().await;
        }
        tokio::time::timeout(PAUSE, happenings.recv()).await.unwrap_or(Some(Happening::Waited))
    }

    /// A server that was started again serves what it served, and does not know that somebody watches.
    async fn followed(&mut self) -> Result<()> {
        match self.releaser.standing().await {
            Standing::Kept => Ok(()),
            Standing::Forgotten => self.release(Vec::new(), Instant::now()).await,
            Standing::Replaced => {
                let text = "another version serves now: the next save replaces it";
                self.output.show(&json!({ "event": "replaced" }), || format!("{} {text}", self.output.paint(Paint::Warn, "!")))
            }
        }
    }

    async fn changed(&mut self, change: Change) -> Result<()> {
        if let Some(error) = &change.unwatched {
            self.output.error(error);
        }
        self.check();
        self.release(change.paths, change.at).await
    }

    /// Brings the project's current state to the server and says how that went.
    async fn release(&mut self, mut saved: Vec<PathBuf>, at: Instant) -> Result<()> {
        if let Patience::Waiting(before) = &self.patience {
            saved.extend(before.iter().filter(|path| !saved.contains(path)).cloned().collect::<Vec<_>>());
        }
        let outcome = match self.releaser.release(&saved).await {
            Err(error) if is_passing(&error) && !matches!(self.patience, Patience::Ending) => {
                return self.wait(saved, &error);
            }
            outcome => outcome,
        };
        if matches!(self.patience, Patience::Waiting(_)) {
            self.patience = Patience::Ready;
        }
        match outcome {
            Ok(Release::Unchanged) => Ok(()),
            Ok(Release::Live { warnings }) => self.show_live(&saved, &warnings, at),
            Ok(Release::Mended) => self.show_mended(),
            Ok(Release::NoBackend) => self.show_no_backend(),
            Err(error) if is_final(&error) => Err(error),
            Err(error) => self.show_failure(&error),
        }
    }

    /// Says so once, however long it takes.
    fn wait(&mut self, saved: Vec<PathBuf>, error: &CliError) -> Result<()> {
        if let Patience::Waiting(_) = std::mem::replace(&mut self.patience, Patience::Waiting(saved)) {
            return Ok(());
        }
        self.output.show(&json!({ "event": "waiting", "problem": error.to_json() }), || {
            format!("{} {error}: waiting for it", self.output.paint(Paint::Warn, "!"))
        })
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

    fn show_live(&self, saved: &[PathBuf], warnings: &[String], at: Instant) -> Result<()> {
        let took = at.elapsed();
        // Editors and tools write to a file beside the real one first.
        let remain = saved.iter().filter(|path| self.folder.join(path).exists());
        let files: Vec<String> = remain.map(|path| path.display().to_string()).collect();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut event = json!({ "event": "live", "ms": ms, "changed": files });
        if !warnings.is_empty() {
            event["warnings"] = json!(warnings);
        }
        self.output.show(&event, || {
            let what = match files.as_slice() {
                [] => String::new(),
                [file] => format!("  {}", printable(file)),
                [file, rest @ ..] => format!("  {} and {} more", printable(file), rest.len()),
            };
            let head = format!("{} live{what}  ({})", self.output.paint(Paint::Good, "✓"), human_duration(took));
            let mark = self.output.paint(Paint::Warn, "!");
            let rest = warnings.iter().map(|warning| format!("{mark} {warning}"));
            std::iter::once(head).chain(rest).collect::<Vec<_>>().join("\n")
        })
    }

    fn show_mended(&self) -> Result<()> {
        let event = json!({ "event": "live", "ms": 0, "changed": [] });
        self.output.show(&event, || format!("{} live  (as before)", self.output.paint(Paint::Good, "✓")))
    }

    fn show_no_backend(&self) -> Result<()> {
        let serving = self.releaser.is_serving();
        let rest = if serving { "the version before goes on serving" } else { "only the manifest was installed" };
        let text = format!("there is no {BACKEND} folder: {rest}");
        let event = json!({ "event": "failed", "problem": { "error": text }, "serving": serving });
        self.output.show(&event, || format!("{} {text}", self.output.paint(Paint::Warn, "!")))
    }

    fn show_failure(&self, error: &CliError) -> Result<()> {
        if self.output.is_json() {
            return print_line(
                &json!({ "event": "failed", "problem": error.to_json(), "serving": self.releaser.is_serving() }).to_string(),
            );
        }
        self.output.error(error);
        let rest = if self.releaser.is_serving() { "the version before goes on serving" } else { "nothing is serving yet" };
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
        if check::lacks_compiler(self.folder) {
            self.output
                .note("Types are not checked: the project has no TypeScript. To get it: npm install --save-dev typescript");
        }
        self.output.note(&format!("Watching {}; stop with Ctrl-C", self.folder.display()));
        Ok(())
    }
}

/// What patience mends: there is no server, or one in front of it says so. Not 504: the server works on what it was sent.
fn is_passing(error: &CliError) -> bool {
    match error {
        CliError::NoServer { .. } => true,
        CliError::Problem(problem) => matches!(problem.status, 502 | 503) && problem.is_foreign(),
        _ => false,
    }
}

/// What neither edits nor patience can mend.
fn is_final(error: &CliError) -> bool {
    match error {
        CliError::Problem(problem) => matches!(problem.status, 401 | 403),
        CliError::NotLoggedIn { .. } | CliError::Output(_) | CliError::NoServer { .. } => true,
        CliError::Usage { .. } | CliError::Failed { .. } => false,
    }
}
