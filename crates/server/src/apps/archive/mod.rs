//! Unpacking a deployed archive: a gzip-compressed tar of ordinary files and folders, nothing else.
//!
//! What could harm is refused by name: paths that leave the folder, links, devices, names that the server needs itself, and
//! archives that unpack into too much. The archive is read from a file, piece by piece. Nothing of a refused one stays.

mod meter;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::EntryType;

use self::meter::{Excess, Meter};

const MIB: u64 = 1024 * 1024;
/// How much is read and written at a time.
const PIECE: usize = 64 * 1024;
/// Longer names fit into no file system that matters.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 1024;
const MAX_DEPTH: usize = 32;

/// Names that belong to the server: it makes the folder of packages itself, from package.json and the lockfile.
const RESERVED: [&str; 1] = ["node_modules"];

/// Where a backend may begin, first match first.
const ENTRY_POINTS: [&str; 8] =
    ["index.ts", "index.js", "main.ts", "main.js", "src/index.ts", "src/index.js", "backend/index.ts", "backend/index.js"];

/// What an archive may unpack into at most.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes: u64,
    entries: usize,
    /// How many times its own size; source code compresses to a fifth, zeros to a thousandth.
    ratio: u64,
    /// Below this many bytes the ratio does not matter.
    ratio_floor: u64,
    /// Bytes that describe one entry: its name and attributes.
    description: u64,
}

const LIMITS: Limits = Limits { bytes: 256 * MIB, entries: 20_000, ratio: 100, ratio_floor: 16 * MIB, description: MIB };

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the archive is empty")]
    Empty,
    #[error("this is no gzip-compressed tar archive: {0}")]
    Format(io::Error),
    #[error("'{0}': an archive may not hold paths that are absolute or contain '..'")]
    UnsafePath(String),
    #[error("'{path}': {fault}")]
    Path { path: String, fault: &'static str },
    #[error("'{path}': an archive may hold files and folders only, this is a {kind}")]
    Kind { path: String, kind: &'static str },
    #[error("'{0}' is in the archive twice, or in the way of another entry")]
    Duplicate(String),
    #[error("the archive unpacks into more than {0} files and folders")]
    TooMany(usize),
    #[error("the archive unpacks into more than {} MiB", .0 / MIB)]
    TooLarge(u64),
    #[error("the archive unpacks into more than {0} times its own size")]
    Ratio(u64),
    #[error("the archive has an entry whose name and attributes are larger than {} MiB", .0 / MIB)]
    Description(u64),
    #[error("no entry point: the archive needs one of {}", ENTRY_POINTS.join(", "))]
    NoEntryPoint,
    #[error("no index.html: it has to be at the root of the archive")]
    NoIndex,
    #[error("cannot read the archive again: {0}")]
    Read(io::Error),
    #[error("cannot write the app's files: {0}")]
    Write(io::Error),
}

/// Unpacks the archive in a file into the fresh folder `target` and finds the entry point. Blocks.
pub fn unpack(archive: &Path, target: &Path) -> Result<String, Error> {
    unpack_within(&LIMITS, archive, target, entry_point)
}

/// Unpacks the archive in a file into the fresh folder `target`, whatever is in it. Blocks.
pub fn unpack_files(archive: &Path, target: &Path) -> Result<(), Error> {
    unpack_within(&LIMITS, archive, target, |_| Ok(()))
}

fn unpack_within<T>(
    limits: &Limits,
    archive: &Path,
    target: &Path,
    find: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let file = File::open(archive).map_err(Error::Read)?;
    let size = file.metadata().map_err(Error::Read)?.len();
    if size == 0 {
        return Err(Error::Empty);
    }
    fs::create_dir_all(target).map_err(Error::Write)?;
    let unpacking = Unpacking { limits, target, meter: Meter::new(limits, size), bytes_left: limits.bytes };
    let result = unpacking.run(file).and_then(|()| find(target));
    if result.is_err() {
        let _ = fs::remove_dir_all(target);
    }
    result
}

/// One archive on its way into a folder.
struct Unpacking<'a> {
    limits: &'a Limits,
    target: &'a Path,
    meter: Meter,
    bytes_left: u64,
}

impl Unpacking<'_> {
    fn run(mut self, file: File) -> Result<(), Error> {
        let mut tar = tar::Archive::new(self.meter.reader(GzDecoder::new(BufReader::new(file))));
        let mut entries = tar.entries().map_err(Error::Format)?;
        for count in 0.. {
            self.meter.expect_description();
            let Some(entry) = entries.next() else { return Ok(()) };
            self.meter.expect_content();
            if count >= self.limits.entries {
                return Err(Error::TooMany(self.limits.entries));
            }
            let entry = entry.map_err(|error| self.broken(error))?;
            self.take(entry)?;
        }
        Ok(())
    }

    fn take(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            // Attributes for all entries, which nobody asks for.
            return self.pass_on(&mut entry, &mut io::sink());
        }
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|error| fault(String::from_utf8_lossy(error.as_bytes()), "its path is no UTF-8"))?;
        let path = self.inside(&name)?;
        match kind {
            EntryType::Directory => make_folder(&path, &name),
            EntryType::Regular | EntryType::Continuous => self.write(&mut entry, &path, &name),
            other => Err(Error::Kind { path: name, kind: describe(other) }),
        }
    }

    /// Where an entry belongs, if it may be there at all.
    fn inside(&self, name: &str) -> Result<PathBuf, Error> {
        let parts: Vec<Component<'_>> = Path::new(name).components().filter(|part| *part != Component::CurDir).collect();
        if !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::UnsafePath(name.to_owned()));
        }
        if name.len() > MAX_PATH || parts.iter().any(|part| part.as_os_str().len() > MAX_NAME) {
            return Err(fault(name, "its path is too long"));
        }
        if parts.len() > MAX_DEPTH {
            return Err(fault(name, "it lies too many folders deep"));
        }
        if name.chars().any(|letter| letter.is_control() || letter == '\\') {
            return Err(fault(name, "its path holds a control character or a backslash"));
        }
        let reserved = |part: &Component<'_>| RESERVED.iter().any(|name| part.as_os_str().eq_ignore_ascii_case(name));
        if parts.iter().any(reserved) {
            return Err(fault(name, "the server installs packages itself, from package.json and the lockfile: leave them out"));
        }
        Ok(parts.iter().fold(self.target.to_owned(), |path, part| path.join(part)))
    }

    fn write(&mut self, entry: &mut impl Read, path: &Path, name: &str) -> Result<(), Error> {
        if let Some(parent) = path.parent() {
            make_folder(parent, name)?;
        }
        // What exists already is not opened, so no entry can change another one, not even where case does not matter.
        let mut file = File::options().write(true).create_new(true).open(path).map_err(|error| in_the_way(error, name))?;
        self.pass_on(entry, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::Write)
    }

    /// Copies what an entry holds, whatever its header claims, and counts it.
    fn pass_on(&mut self, entry: &mut impl Read, to: &mut impl Write) -> Result<(), Error> {
        let mut piece = vec![0; PIECE];
        loop {
            let read = match entry.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            self.bytes_left = self.bytes_left.checked_sub(read as u64).ok_or(Error::TooLarge(self.limits.bytes))?;
            to.write_all(piece.get(..read).unwrap_or_default()).map_err(Error::Write)?;
        }
    }

    /// Why reading failed: because the meter stopped it, or because of the archive.
    fn broken(&self, error: io::Error) -> Error {
        match self.meter.excess() {
            Some(Excess::Total) => Error::TooLarge(self.limits.bytes),
            Some(Excess::Ratio) => Error::Ratio(self.limits.ratio),
            Some(Excess::Description) => Error::Description(self.limits.description),
            None => Error::Format(error),
        }
    }
}

fn fault(path: impl AsRef<str>, fault: &'static str) -> Error {
    // A name of a megabyte helps nobody.
    Error::Path { path: path.as_ref().chars().take(MAX_NAME).collect(), fault }
}

fn make_folder(path: &Path, name: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| in_the_way(error, name))
}

/// Tells a file where a folder should be, or the other way round, from a disk that does not work.
fn in_the_way(error: io::Error, name: &str) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Error::Duplicate(name.to_owned()),
        _ => Error::Write(error),
    }
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
