//! What may be in an archive, and what happens to the rest.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

type Builder = tar::Builder<GzEncoder<Vec<u8>>>;
type Build = fn(&mut Builder);

fn archive(build: impl FnOnce(&mut Builder)) -> Vec<u8> {
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

fn entry(builder: &mut Builder, kind: EntryType, path: &str, content: &[u8]) {
    builder.append(&header(kind, content.len() as u64, path.as_bytes()), content).expect("appended");
}

fn file(builder: &mut Builder, path: &str, content: &[u8]) {
    entry(builder, EntryType::Regular, path, content);
}

/// A file whose path does not fit into a header.
fn long(builder: &mut Builder, path: &str) {
    builder.append_data(&mut header(EntryType::Regular, 0, b""), path, &[][..]).expect("appended");
}

fn unpacked_within(limits: &Limits, bytes: &[u8]) -> Result<String, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("archive"), folder.path().join("app"));
    fs::write(&source, bytes).expect("written");
    let result = unpack_within(limits, &source, &target, entry_point);
    assert_eq!(target.exists(), result.is_ok(), "a refused archive leaves nothing");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1 + usize::from(result.is_ok()), "nothing beside it");
    result
}

fn unpacked(bytes: &[u8]) -> Result<String, Error> {
    unpacked_within(&LIMITS, bytes)
}

#[track_caller]
fn refused(build: impl FnOnce(&mut Builder)) -> String {
    unpacked(&archive(build)).expect_err("refused").to_string()
}

#[test]
fn files_are_unpacked_and_the_entry_point_found() {
    let bytes = archive(|builder| {
        entry(builder, EntryType::XGlobalHeader, "pax_global_header", b"19 comment=anything\n");
        entry(builder, EntryType::Directory, "./", b"");
        entry(builder, EntryType::Directory, "src/", b"");
        entry(builder, EntryType::Directory, "src/", b"");
        file(builder, "./package.json", b"{}");
        file(builder, "src/index.ts", b"serve({})");
        long(builder, &format!("src/{}/{}.ts", "a".repeat(120), "b".repeat(200)));
    });
    assert_eq!(unpacked(&bytes).expect("a good archive"), "src/index.ts");
}

#[test]
fn paths_that_leave_the_folder_are_refused_by_name() {
    for path in ["../evil", "/etc/passwd", "a/../../b", "a/.."] {
        assert!(refused(|builder| file(builder, path, b"x")).contains(&format!("'{path}'")), "{path}");
        let folder = refused(|builder| entry(builder, EntryType::Directory, path, b""));
        assert!(folder.contains("absolute or contain '..'"), "{folder}");
    }
}

#[test]
fn what_is_neither_file_nor_folder_is_refused_by_name() {
    for (kind, word) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Fifo, "pipe"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::new(b'Z'), "special entry"),
    ] {
        let error = refused(|builder| entry(builder, kind, "index.ts", b""));
        assert!(error.contains("'index.ts'") && error.contains(word), "{error}");
    }
}

#[test]
fn paths_that_no_file_system_or_person_can_handle_are_refused() {
    for (path, word) in [
        (format!("{}.ts", "a".repeat(300)), "too long"),
        (["abcdefgh"; 130].join("/"), "too long"),
        (["a"; 40].join("/"), "too many folders"),
        ("a\nb.ts".to_owned(), "control character"),
        ("a\\b.ts".to_owned(), "backslash"),
    ] {
        let error = refused(|builder| long(builder, &path));
        assert!(error.contains(word) && error.len() < 500, "{path}: {error}");
    }
    let bytes = archive(|builder| builder.append(&header(EntryType::Regular, 0, b"\xff.ts"), &[][..]).expect("appended"));
    assert!(unpacked(&bytes).expect_err("refused").to_string().contains("no UTF-8"));
}

#[test]
fn packages_are_the_servers_to_install() {
    for path in ["node_modules/left/index.js", "./node_modules", "sub/Node_Modules/x.js"] {
        let error = refused(|builder| file(builder, path, b"x"));
        assert!(error.contains(&format!("'{path}'")) && error.contains("package.json"), "{error}");
    }
}

#[test]
fn nothing_is_there_twice() {
    let twice: [(&str, Build); 4] = [
        ("./index.ts", |builder| {
            file(builder, "index.ts", b"one");
            file(builder, "./index.ts", b"two");
        }),
        ("index.ts/inner.ts", |builder| {
            file(builder, "index.ts", b"one");
            file(builder, "index.ts/inner.ts", b"two");
        }),
        ("src", |builder| {
            file(builder, "src/index.ts", b"one");
            file(builder, "src", b"two");
        }),
        ("index.ts", |builder| {
            file(builder, "index.ts", b"one");
            entry(builder, EntryType::Directory, "index.ts", b"");
        }),
    ];
    for (name, build) in twice {
        let error = refused(build);
        assert!(error.contains(&format!("'{name}'")) && error.contains("twice"), "{error}");
    }
}

#[test]
fn rubbish_emptiness_and_a_missing_entry_point_are_told_apart() {
    assert!(matches!(unpacked_within(&LIMITS, b"").expect_err("empty"), Error::Empty));
    assert!(matches!(unpacked(b"not a tarball"), Err(Error::Format(_))));
    assert!(matches!(unpacked(&archive(|builder| file(builder, "readme.md", b"x"))), Err(Error::NoEntryPoint)));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"gzip, but no tar in it").expect("written");
    assert!(matches!(unpacked(&gzip.finish().expect("gzip")), Err(Error::Format(_))));
    let whole = archive(|builder| file(builder, "index.ts", &[b'x'; 5000]));
    assert!(matches!(unpacked(whole.get(..whole.len() / 2).expect("half")), Err(Error::Format(_))), "broken off");
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::fill(bytes.as_mut_slice());
    bytes
}

#[test]
fn bombs_are_refused_by_count_size_and_ratio() {
    let small = Limits { bytes: 10_000, entries: 3, ratio: 10, ratio_floor: 100_000, description: 4096 };
    let within = |bytes: &[u8]| unpacked_within(&small, bytes);
    let files = |count: usize| archive(|builder| (0..count).for_each(|number| file(builder, &format!("{number}/index.ts"), b"")));
    assert!(matches!(within(&files(3)), Err(Error::NoEntryPoint)));
    assert!(matches!(within(&files(4)), Err(Error::TooMany(3))));

    let of = |size: usize| archive(|builder| file(builder, "index.ts", &noise(size)));
    assert!(within(&of(10_000)).is_ok(), "exactly full");
    assert!(matches!(within(&of(10_001)), Err(Error::TooLarge(10_000))));

    let zeros = |size: usize| archive(|builder| file(builder, "index.ts", &vec![0; size]));
    let roomy = Limits { bytes: 10_000_000, ..small };
    assert!(unpacked_within(&roomy, &zeros(90_000)).is_ok(), "below the floor the ratio does not matter");
    assert!(matches!(unpacked_within(&roomy, &zeros(200_000)), Err(Error::Ratio(10))));
    assert!(unpacked_within(&roomy, &of(200_000)).is_ok(), "what does not compress is no bomb");
}

#[test]
fn what_describes_an_entry_is_bounded_too() {
    let small = Limits { description: 4096, ..LIMITS };
    let bytes = archive(|builder| long(builder, &"a/".repeat(4000)));
    assert!(matches!(unpacked_within(&small, &bytes), Err(Error::Description(4096))));
    // Not only the tar's own limit: a long description never reaches memory as a whole.
    let bytes = archive(|builder| {
        let size = 64 * MIB;
        let long_name = header(EntryType::GNULongName, size, b"././@LongLink");
        builder.append(&long_name, io::repeat(b'a').take(size)).expect("appended");
        file(builder, "index.ts", b"");
    });
    assert!(matches!(unpacked(&bytes), Err(Error::Description(_))));
}

#[test]
fn the_limits_in_force_stop_a_real_bomb() {
    let bytes = archive(|builder| {
        let size = LIMITS.bytes + 1;
        builder.append(&header(EntryType::Regular, size, b"index.ts"), io::repeat(0).take(size)).expect("appended");
    });
    assert!(bytes.len() < 4 * 1024 * 1024);
    assert!(matches!(unpacked(&bytes), Err(Error::Ratio(_))));
}
