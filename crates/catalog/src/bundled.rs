//! The integrations that come with the program.

use std::{collections::BTreeMap, sync::LazyLock};

use rust_embed::RustEmbed;

use crate::{Folder, Package};

#[derive(RustEmbed)]
#[folder = "../../integrations"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/test/*"]
struct Files;

static ALL: LazyLock<BTreeMap<String, Package>> = LazyLock::new(load);

/// Every bundled integration, by its id.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Package)> {
    ALL.iter().map(|(id, bundled)| (id.as_str(), bundled))
}

pub fn find(id: &str) -> Option<&'static Package> {
    ALL.get(id)
}

fn load() -> BTreeMap<String, Package> {
    let mut folders = BTreeMap::<String, Folder>::new();
    for path in Files::iter() {
        if let (Some((id, rest)), Some(file)) = (path.split_once('/'), Files::get(&path)) {
            folders.entry(id.to_owned()).or_default().0.insert(rest.to_owned(), file.data.into_owned());
        }
    }
    folders.into_iter().filter_map(|(id, files)| Some((id, Package::of(files)?))).collect()
}
