//! What a `bun.lock` pins: which packages an installation without development packages brings in, and where they come from.
//!
//! Pure. The format is JSON with trailing commas: `workspaces` with what the project asks for, and `packages` by the place where
//! each lies, so that `a/b` is the `b` that only `a` sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
};

use jsonc_parser::ParseOptions;
use serde::Deserialize;
use serde_json::Value;

/// Bytes; thousands of packages fit.
const LARGEST: u64 = 16 * 1024 * 1024;
/// The parts of a project or package that ask for packages at run time.
const ASKING: [&str; 3] = ["dependencies", "optionalDependencies", "peerDependencies"];

/// JSON, but for the commas at the end and comments.
const FORMAT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A version of a package of the registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    pub name: String,
    pub version: String,
}

/// What will be installed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pinned {
    pub releases: BTreeSet<Release>,
    /// Packages from anywhere else than a registry or the archive itself, as the lockfile names them.
    pub elsewhere: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("bun.lock cannot be read: {0}")]
pub struct Unreadable(String);

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    workspaces: BTreeMap<String, Value>,
    #[serde(default)]
    packages: BTreeMap<String, Vec<Value>>,
}

/// Reads the lockfile of a project.
pub(super) fn read_file(path: &Path) -> Result<Pinned, Unreadable> {
    let unreadable = |error: io::Error| Unreadable(error.to_string());
    let mut text = String::new();
    let read_bytes = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if read_bytes as u64 > LARGEST {
        return Err(Unreadable(format!("it is larger than {} MiB", LARGEST / 1024 / 1024)));
    }
    read(&text)
}

fn read(text: &str) -> Result<Pinned, Unreadable> {
    let lock: Lock = jsonc_parser::parse_to_serde_value(text, &FORMAT).map_err(|error| Unreadable(error.to_string()))?;
    lock.pinned()
}

impl Lock {
    fn pinned(&self) -> Result<Pinned, Unreadable> {
        let (mut pinned, mut seen) = (Pinned::default(), BTreeSet::new());
        let mut open: Vec<&str> = self.workspaces.values().flat_map(|project| self.asked(&own_place(project), project)).collect();
        while let Some(place) = open.pop() {
            if !seen.insert(place) {
                continue;
            }
            let Some(package) = self.packages.get(place) else { continue };
            let name = package.first().and_then(Value::as_str);
            note(&mut pinned, name.ok_or_else(|| Unreadable(format!("the package at '{place}' has no name")))?);
            if let Some(details) = package.iter().find(|part| part.is_object()) {
                open.extend(self.asked(place, details));
            }
        }
        Ok(pinned)
    }

    /// The places of the packages that a project or package asks for. What is not in the lockfile is not installed.
    fn asked<'a>(&'a self, place: &str, asking: &'a Value) -> Vec<&'a str> {
        let parts = ASKING.iter().filter_map(|part| asking.get(part)?.as_object());
        parts.flat_map(|part| part.keys()).filter_map(|name| self.nearest(place, name)).collect()
    }

    /// The package of this name that is seen from a place: the one below it, else below what it lies in, and so on.
    fn nearest(&self, place: &str, name: &str) -> Option<&str> {
        let mut folders = folders(place);
        loop {
            let candidate = if folders.is_empty() { name.to_owned() } else { format!("{}/{name}", folders.join("/")) };
            if let Some((place, _)) = self.packages.get_key_value(&candidate) {
                return Some(place);
            }
            folders.pop()?;
        }
    }
}

/// Where the packages lie that only this project sees.
fn own_place(project: &Value) -> String {
    project.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The names in a place, outermost first. A name may have a scope: `@a/b/c` is `c` below `@a/b`.
fn folders(place: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in place.split('/').filter(|part| !part.is_empty()) {
        match names.last_mut() {
            Some(scope) if scope.starts_with('@') && !scope.contains('/') => *scope = format!("{scope}/{part}"),
            _ => names.push(part.to_owned()),
        }
    }
    names
}

fn note(pinned: &mut Pinned, package: &str) {
    // The first letter may be the @ of a scope.
    let split = package.char_indices().skip(1).find(|(_, letter)| *letter == '@').map(|(at, _)| package.split_at(at));
    let (name, version) = split.map_or((package, ""), |(name, version)| (name, version.trim_start_matches('@')));
    if is_version(version) && is_name(name) {
        pinned.releases.insert(Release { name: name.to_owned(), version: version.to_owned() });
    } else if !is_local(version) {
        pinned.elsewhere.insert(package.to_owned());
    }
}

fn is_version(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit()) && !text.contains(['/', ':'])
}

/// A name as the registry gives them out; it becomes an argument of a command.
fn is_name(text: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '@' | '/' | '-' | '.' | '_' | '~');
    !text.starts_with(['-', '.', '/']) && text.chars().all(allowed)
}

/// Whether it is part of the archive.
fn is_local(version: &str) -> bool {
    let by_protocol = ["file:", "link:", "workspace:", "root:"].iter().any(|protocol| version.starts_with(protocol));
    // A tarball by its path. Git addresses such as `user/repository` have no dot at their beginning.
    by_protocol || version.starts_with("./") || version.starts_with("../")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(text: &str) -> Vec<String> {
        let pinned = read(text).expect("a lockfile");
        assert_eq!(pinned.elsewhere, BTreeSet::new());
        pinned.releases.into_iter().map(|release| format!("{}@{}", release.name, release.version)).collect()
    }

    #[test]
    fn what_is_installed_is_pinned_by_its_real_name_and_development_packages_are_not() {
        let text = r#"{
          "lockfileVersion": 2,
          "workspaces": { "": {
            "name": "x",
            "dependencies": { "alias": "npm:script@1.0.0", "@scope/a": "^1.0.0", "local": "file:./local", },
            "devDependencies": { "typescript": "7.0.0" },
            "optionalDependencies": { "absent": "1.0.0" },
          } },
          "packages": {
            "@scope/a": ["@scope/a@1.2.0", "", { "dependencies": { "left": "^1.0.0" }, "peerDependencies": { "peer": "*" } }, "sha512-…"],
            "alias": ["script@1.0.0", "https://registry.test/script.tgz", {}, "sha512-…"],
            "left": ["left@1.1.0", "", {}, "sha512-…"],
            "local": ["local@file:local", { "dependencies": { "left": "1.0.0" } }],
            "peer": ["peer@2.0.0-beta.1", "", {}, "sha512-…"],
            "typescript": ["typescript@7.0.0", "", {}, "sha512-…"],
            "local/left": ["left@1.0.0", "", {}, "sha512-…"],
            "@scope/a/left": ["left@1.0.5", "", { "dependencies": { "left": "0.9.0" } }, "sha512-…"],
          }
        }"#;
        let expected = ["@scope/a@1.2.0", "left@1.0.0", "left@1.0.5", "peer@2.0.0-beta.1", "script@1.0.0"];
        assert_eq!(releases(text), expected);
    }

    #[test]
    fn a_workspace_asks_from_its_own_place() {
        let text = r#"{
          "workspaces": { "": { "name": "x" }, "packages/a": { "name": "a", "dependencies": { "left": "1.0.0" } } },
          "packages": { "a": ["a@workspace:packages/a"], "left": ["left@2.0.0", "", {}, ""], "a/left": ["left@1.0.0", "", {}, ""] },
        }"#;
        assert_eq!(releases(text), ["left@1.0.0"]);
    }

    #[test]
    fn what_comes_from_elsewhere_is_told_apart() {
        for package in [
            "left@https://evil.test/left-1.0.0.tgz",
            "left@git+ssh://git@github.com/u/left.git#abc",
            "left@github:u/left#abc",
            "-c=evil@1.0.0",
            "left",
        ] {
            let lock = serde_json::json!({
                "workspaces": { "": { "dependencies": { "left": "*" } } }, "packages": { "left": [package, {}] },
            });
            let pinned = read(&lock.to_string()).expect("a lockfile");
            assert_eq!(pinned.elsewhere, BTreeSet::from([package.to_owned()]));
            assert_eq!(pinned.releases, BTreeSet::new());
        }
    }

    #[test]
    fn a_lockfile_that_is_none_is_an_error() {
        for text in [
            "{",
            r#"{ "packages": [] }"#,
            r#"{ "workspaces": { "": { "dependencies": { "a": "1" } } }, "packages": { "a": [{}] } }"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("{}").expect("nothing pinned"), Pinned::default());
        for depth in [500, 100_000] {
            let deep = format!(r#"{{ "workspaces": {{ "": {}{} }} }}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(read(&deep).is_ok(), depth == 500, "{depth}");
        }
    }

    #[test]
    fn a_lockfile_as_large_as_a_disk_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(LARGEST + 1).expect("a hole");
        let error = read_file(file.path()).expect_err("too large").to_string();
        assert!(error.contains("larger than 16 MiB"), "{error}");
    }
}
