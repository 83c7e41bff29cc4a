//! `[[catalog]]`: signed indexes of integrations beside those that come with the server.

use serde::Deserialize;

use super::Problems;
use crate::integrations::Source;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogFile {
    url: String,
    key: String,
}

impl CatalogFile {
    pub(super) fn check(self, problems: &mut Problems) -> Option<Source> {
        let url = problems.http_url("catalog.url", &self.url);
        let Ok(key) = self.key.parse() else {
            problems.add(format!("catalog.key: '{}' is no public key as `weft catalog key` prints it", self.key));
            return None;
        };
        Some(Source { url: url?, key })
    }
}
