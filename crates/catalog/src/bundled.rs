//! The integrations that come with the program.

use std::{collections::BTreeMap, io, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use rust_embed::RustEmbed;
use serde_json::Value;
use weft_model::manifest::Content;

use crate::Folder;

#[derive(RustEmbed)]
#[folder = "../../integrations"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/test/*"]
struct Files;

/// Files beside the manifest that go with a backend.
const BESIDE: [&str; 3] = ["package.json", "bun.lock", "package-lock.json"];

/// One bundled integration.
#[derive(Debug)]
pub struct Bundled {
    pub document: Value,
    pub content: Content,
    files: Folder,
}

static ALL: LazyLock<BTreeMap<String, Bundled>> = LazyLock::new(load);

/// Every bundled integration, by its id.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Bundled)> {
    ALL.iter().map(|(id, bundled)| (id.as_str(), bundled))
}

pub fn find(id: &str) -> Option<&'static Bundled> {
    ALL.get(id)
}

fn load() -> BTreeMap<String, Bundled> {
    let mut folders = BTreeMap::<String, Folder>::new();
    for path in Files::iter() {
        if let (Some((id, rest)), Some(file)) = (path.split_once('/'), Files::get(&path)) {
            folders.entry(id.to_owned()).or_default().0.insert(rest.to_owned(), file.data.into_owned());
        }
    }
    let bundled = |(id, files): (String, Folder)| {
        let document: Value = serde_json::from_str(files.text("manifest.json")?).ok()?;
        let content = Content::from_stored(document.clone()).ok()?;
        Some((id, Bundled { document, content, files }))
    };
    folders.into_iter().filter_map(bundled).collect()
}

impl Bundled {
    /// The archive of its backend, laid out as `weft deploy` does it; `None` where the recipes make do without.
    pub fn archive(&self) -> io::Result<Option<Vec<u8>>> {
        let backend: BTreeMap<_, _> = self
            .files
            .below("backend", "")
            .map(|(path, content)| (path.trim_start_matches("backend/").to_owned(), content))
            .collect();
        if backend.is_empty() {
            return Ok(None);
        }
        let icon = self.content.icon.as_deref().map(|icon| icon.trim_start_matches("./"));
        let beside =
            BESIDE.into_iter().chain(icon).filter_map(|name| Some((name.to_owned(), self.files.0.get(name)?.as_slice())));
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, content) in beside.filter(|(name, _)| !backend.contains_key(name)).chain(backend.clone()) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content)?;
        }
        archive.into_inner()?.finish().map(Some)
    }
}
