//! Unpacking a deployed archive: a gzip-compressed tar of ordinary files and folders, nothing else.
//!
//! Paths that leave the folder, links, devices and archives that unpack into too much are refused by name. Nothing of a refused
//! archive stays.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::EntryType;

/// What an archive may unpack into at most.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
const MAX_ENTRIES: usize = 20_000;

/// Where a backend may begin, first match first.
const ENTRY_POINTS: [&str; 8] =
    ["index.ts", "index.js", "main.ts", "main.js", "src/index.ts", "src/index.js", "backend/index.ts", "backend/index.js"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the archive is empty")]
    Empty,
    #[error("this is no gzip-compressed tar archive: {0}")]
    Format(std::io::Error),
    #[error("'{0}': an archive may not hold paths that are absolute or contain '..'")]
    UnsafePath(String),
    #[error("'{path}': an archive may hold files and folders only, this is a {kind}")]
    Kind { path: String, kind: &'static str },
    #[error("the archive unpacks into more than {} files", MAX_ENTRIES)]
    TooMany,
    #[error("the archive unpacks into more than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("no entry point: the archive needs one of {}", ENTRY_POINTS.join(", "))]
    NoEntryPoint,
    #[error("cannot write the app's files: {0}")]
    Write(std::io::Error),
}

/// Unpacks `archive` into the fresh folder `target` and finds the entry point. Blocks.
pub fn unpack(archive: &[u8], target: &Path) -> Result<String, Error> {
    if archive.is_empty() {
        return Err(Error::Empty);
    }
    fs::create_dir_all(target).map_err(Error::Write)?;
    let result = unpack_entries(archive, target).and_then(|()| entry_point(target));
    if result.is_err() {
        let _ = fs::remove_dir_all(target);
    }
    result
}

fn unpack_entries(archive: &[u8], target: &Path) -> Result<(), Error> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let mut left = MAX_BYTES;
    for (count, entry) in tar.entries().map_err(Error::Format)?.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(Error::TooMany);
        }
        let mut entry = entry.map_err(Error::Format)?;
        let name = entry.path().map_err(Error::Format)?.into_owned();
        let path = inside(target, &name)?;
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path).map_err(Error::Write)?,
            EntryType::Regular | EntryType::Continuous => left = write(&mut entry, &path, left)?,
            EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName => {}
            other => return Err(Error::Kind { path: name.display().to_string(), kind: describe(other) }),
        }
    }
    Ok(())
}

fn inside(target: &Path, name: &Path) -> Result<PathBuf, Error> {
    let ordinary = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if ordinary { Ok(target.join(name)) } else { Err(Error::UnsafePath(name.display().to_string())) }
}

/// Writes one file and returns how many bytes may still follow.
fn write(entry: &mut impl Read, path: &Path, left: u64) -> Result<u64, Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::Write)?;
    }
    let mut file = fs::File::create(path).map_err(Error::Write)?;
    // One byte more than is allowed tells "exactly full" from "too large", whatever the header claims.
    let written = std::io::copy(&mut entry.take(left + 1), &mut file).map_err(Error::Format)?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::Write)?;
    left.checked_sub(written).ok_or(Error::TooLarge)
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        _ => "special entry",
    }
}

fn entry_point(target: &Path) -> Result<String, Error> {
    let found = ENTRY_POINTS.iter().find(|name| target.join(name).is_file());
    found.map(|name| (*name).to_owned()).ok_or(Error::NoEntryPoint)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        build(&mut builder);
        builder.into_inner().expect("a tar").finish().expect("gzip")
    }

    fn header(kind: EntryType, size: u64, path: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        // Written by hand, because the builder refuses the paths that this is about.
        header.as_old_mut().name.get_mut(..path.len()).expect("a short path").copy_from_slice(path);
        header.set_cksum();
        header
    }

    fn file(builder: &mut tar::Builder<GzEncoder<Vec<u8>>>, path: &str, content: &[u8]) {
        builder.append(&header(EntryType::Regular, content.len() as u64, path.as_bytes()), content).expect("appended");
    }

    fn unpacked(bytes: &[u8]) -> Result<String, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("app");
        let result = unpack(bytes, &target);
        assert_eq!(target.exists(), result.is_ok(), "a refused archive leaves nothing");
        result
    }

    #[test]
    fn files_are_unpacked_and_the_entry_point_found() {
        let bytes = archive(|builder| {
            file(builder, "./package.json", b"{}");
            file(builder, "src/index.ts", b"serve({})");
        });
        assert_eq!(unpacked(&bytes).expect("a good archive"), "src/index.ts");
    }

    #[test]
    fn what_does_not_belong_is_refused_by_name() {
        for (path, word) in [("../evil", "'../evil'"), ("/etc/passwd", "'/etc/passwd'"), ("a/../../b", "'a/../../b'")] {
            let error = unpacked(&archive(|builder| file(builder, path, b"x"))).expect_err(path).to_string();
            assert!(error.contains(word), "{error}");
        }
        for (kind, word) in [
            (EntryType::Symlink, "symbolic link"),
            (EntryType::Link, "hard link"),
            (EntryType::Fifo, "pipe"),
            (EntryType::Char, "device"),
        ] {
            let bytes = archive(|builder| builder.append(&header(kind, 0, b"index.ts"), &[][..]).expect("appended"));
            let error = unpacked(&bytes).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn rubbish_emptiness_and_a_missing_entry_point_are_told_apart() {
        assert!(matches!(unpacked(b""), Err(Error::Empty)));
        assert!(matches!(unpacked(b"not a tarball"), Err(Error::Format(_))));
        assert!(matches!(unpacked(&archive(|builder| file(builder, "readme.md", b"x"))), Err(Error::NoEntryPoint)));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"gzip, but no tar in it").expect("written");
        assert!(matches!(unpacked(&gzip.finish().expect("gzip")), Err(Error::Format(_))));
    }

    #[test]
    fn a_bomb_is_refused() {
        let bytes = archive(|builder| {
            let size = MAX_BYTES + 1;
            builder.append(&header(EntryType::Regular, size, b"index.ts"), std::io::repeat(0).take(size)).expect("appended");
        });
        assert!(matches!(unpacked(&bytes), Err(Error::TooLarge)));
    }
}
