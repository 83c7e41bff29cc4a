//! The programs that the server runs beside itself, and the worker prelude that it brings along.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{Account, DataDir};

/// The worker prelude, as it was when the server was built.
const PRELUDE: &[(&str, &str)] = &[
    ("calls.ts", include_str!("../../../../js/worker/src/calls.ts")),
    ("data.ts", include_str!("../../../../js/worker/src/data.ts")),
    ("dev.ts", include_str!("../../../../js/worker/src/dev.ts")),
    ("errors.ts", include_str!("../../../../js/worker/src/errors.ts")),
    ("integration.ts", include_str!("../../../../js/worker/src/integration.ts")),
    ("load.ts", include_str!("../../../../js/worker/src/load.ts")),
    ("outgoing.ts", include_str!("../../../../js/worker/src/outgoing.ts")),
    ("prelude.ts", include_str!("../../../../js/worker/src/prelude.ts")),
    ("secrets.ts", include_str!("../../../../js/worker/src/secrets.ts")),
    ("serve.ts", include_str!("../../../../js/worker/src/serve.ts")),
    ("wire.ts", include_str!("../../../../js/worker/src/wire.ts")),
];

/// Where Bun and the prelude are, within reach of the account that runs them.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub bun: PathBuf,
    pub prelude: PathBuf,
}

impl Runtime {
    /// Finds Bun and writes the prelude. As root, a Bun that the worker account cannot reach is copied into the data directory.
    pub fn prepare(data_dir: &DataDir, candidates: &[PathBuf], account: Option<Account>) -> anyhow::Result<Self> {
        let folder = data_dir.folder("runtime", 0o755)?;
        let worker = data_dir.folder("runtime/worker", 0o755)?;
        for (name, text) in PRELUDE {
            fs::write(worker.join(name), text)
                .with_context(|| format!("cannot write the worker prelude to {}", worker.display()))?;
        }
        let found = find_bun(candidates)?;
        let bun = within_reach(&found, &folder.join("bun"), account).context("cannot copy Bun into the data directory")?;
        Ok(Self { bun, prelude: worker.join("prelude.ts") })
    }

    /// Folders that may hold `node_modules` with the pinned programs: the configured one, else `runtime` beside or above the program.
    /// Fails where the configured one has none: a server must not begin with what happens to be elsewhere.
    pub fn candidates(configured: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
        if let Some(folder) = configured {
            anyhow::ensure!(
                folder.join("node_modules").is_dir(),
                "the runtime folder {} holds no node_modules: run `npm ci` in the project's runtime folder, and name that folder with \
                 --runtime-dir or WEFT_RUNTIME_DIR",
                folder.display()
            );
            return Ok(vec![folder.to_owned()]);
        }
        let program = std::env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
        let folders = program.ancestors().skip(1).map(|folder| folder.join("runtime"));
        Ok(folders.filter(|folder| folder.is_dir()).collect())
    }
}

/// The Bun that a server started here would use.
pub fn find_bun(candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    for candidate in candidates {
        let scope = candidate.join("node_modules/@oven");
        let packages = fs::read_dir(&scope).into_iter().flatten().flatten();
        if let Some(bun) = packages.map(|package| package.path().join("bin/bun")).find(|bun| bun.is_file()) {
            return Ok(fs::canonicalize(bun)?);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(bun) = std::env::split_paths(&path).map(|folder| folder.join("bun")).find(|bun| bun.is_file()) {
        return Ok(fs::canonicalize(bun)?);
    }
    let looked: Vec<_> = candidates.iter().map(|folder| folder.display().to_string()).collect();
    bail!(
        "Bun was not found (looked below {} and on the PATH): run `npm ci` in the project's runtime folder, \
         or name the folder that holds its node_modules with --runtime-dir",
        if looked.is_empty() { "no runtime folder".to_owned() } else { looked.join(", ") }
    )
}

fn within_reach(bun: &Path, copy_to: &Path, account: Option<Account>) -> io::Result<PathBuf> {
    let Some(folder) = bun.parent() else { return Ok(bun.to_owned()) };
    let account = account.map(|account| weft_postgres::Account { uid: account.uid, gid: account.gid });
    let folder = weft_postgres::reachable_copy(folder, copy_to, account)?;
    Ok(folder.join("bun"))
}
