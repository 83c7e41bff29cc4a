//! An index of integrations that are elsewhere: a list under a signature, and archives that it names by their digests.
//!
//! The list is a compact ES256 signature over its content, one text. Whoever has the key's public half knows that the list is its
//! owner's, and by the digests that the archives are, too, wherever they lie.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;
use weft_attest::{PublicKey, SigningKey};

use crate::{Folder, Package, Unreadable};

/// What a signature of a list is for.
const KIND: &str = "weft-catalog+jwt";

/// What an index offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Whose integrations these are.
    pub name: String,
    pub issued_at: DateTime<Utc>,
    /// From when on nobody takes it any more: an old list may name what was withdrawn since.
    pub expires_at: DateTime<Utc>,
    pub integrations: Vec<Listed>,
}

/// An integration in an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub manifest: Value,
    /// Where its archive is; relative to the index.
    pub url: String,
    /// The digest of the archive, 64 hexadecimal digits.
    pub sha256: String,
}

/// Why an index or what it names is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it is not signed by the key that the settings name, or was changed")]
    Signature,
    #[error("it was good until {0} and has not been renewed")]
    Expired(DateTime<Utc>),
    #[error("the archive is not the one that was meant: its SHA-256 is {found}, not {wanted}")]
    Digest { found: String, wanted: String },
    #[error("the archive: {0}")]
    Archive(#[from] Unreadable),
    #[error("the archive holds no integration: manifest.json is missing or no manifest")]
    NoManifest,
    #[error("the archive holds another manifest than the index shows")]
    OtherManifest,
}

impl Index {
    /// The index as it is published.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(KIND, self)
    }

    /// An index as it was published, if it is the key's and still good.
    pub fn verify(text: &str, key: &PublicKey, now: DateTime<Utc>) -> Result<Self, Refused> {
        let index: Self = key.verify(KIND, text.trim()).map_err(|_| Refused::Signature)?;
        if index.expires_at <= now { Err(Refused::Expired(index.expires_at)) } else { Ok(index) }
    }

    /// What is listed under an id.
    pub fn find(&self, id: &str) -> Option<&Listed> {
        self.integrations.iter().find(|listed| listed.id() == Some(id))
    }
}

impl Listed {
    /// Lists an integration whose archive will be beside the index under `file`.
    pub fn new(package: &Package, file: &str, archive: &[u8]) -> Self {
        Self { manifest: package.document.clone(), url: file.to_owned(), sha256: digest(archive) }
    }

    pub fn id(&self) -> Option<&str> {
        self.manifest.get("appId").and_then(Value::as_str)
    }

    /// Where the archive is, for an index that is at `index`.
    pub fn address(&self, index: &Url) -> Result<Url, url::ParseError> {
        index.join(&self.url)
    }

    /// The integration in an archive, if that is the one that is listed.
    pub fn open(&self, archive: &[u8]) -> Result<Package, Refused> {
        check(archive, &self.sha256)?;
        let package = Package::of(Folder::unpack(archive)?).ok_or(Refused::NoManifest)?;
        if package.document == self.manifest { Ok(package) } else { Err(Refused::OtherManifest) }
    }
}

/// Whether an archive is the one that was meant.
pub fn check(archive: &[u8], sha256: &str) -> Result<(), Refused> {
    let found = digest(archive);
    if sha256.eq_ignore_ascii_case(&found) { Ok(()) } else { Err(Refused::Digest { found, wanted: sha256.to_owned() }) }
}

fn digest(archive: &[u8]) -> String {
    hex::encode(Sha256::digest(archive))
}
