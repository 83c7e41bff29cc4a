//! The file in which a chain travels: one JSON document per line, a header, the entries, checkpoints among them, and a signed end.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{KeySet, Link};

/// The purpose of the signature over a chain up to an entry, made now and then.
pub const CHECKPOINT: &str = "weft-checkpoint+jwt";
/// The purpose of the signature at the end of an export.
pub const END: &str = "weft-export-end+jwt";
/// The name of this format in the header.
pub const FORMAT: &str = "weft-audit/1";

/// The header of a file, its first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    /// The chain's name.
    pub chain: String,
    /// The first entry of this file.
    pub from: u64,
    /// The chain before that entry.
    pub previous: Link,
    /// The keys that the server says it signs with. Who wants to be sure has them from elsewhere.
    pub keys: KeySet,
}

/// An entry, its text exactly as it was hashed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    pub hash: Link,
    pub entry: Box<RawValue>,
}

/// A checkpoint, or the end of the file when it is the last line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Signed {
    pub signature: String,
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub iss: String,
    pub chain: String,
    /// The last entry that it covers.
    pub seq: u64,
    pub hash: Link,
    /// Seconds since 1970.
    pub iat: i64,
}

/// What the end of an export says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub iss: String,
    pub chain: String,
    pub from: u64,
    pub previous: Link,
    /// The last entry of the chain when the export was made.
    pub to: u64,
    pub hash: Link,
    pub iat: i64,
}

/// One line.
#[derive(Debug)]
pub enum Line {
    Header(Header),
    Entry(Entry),
    Checkpoint(Signed),
    End(Signed),
}

/// A line as it is written: `{"line":"entry","hash":…,"entry":…}`. Not an enum that serde tags: it would take the entry's text
/// apart and put it together anew.
#[derive(Serialize)]
struct Tagged<'a, T> {
    line: &'a str,
    #[serde(flatten)]
    content: T,
}

impl Line {
    /// The line as text, its end included.
    pub fn write(&self) -> serde_json::Result<String> {
        fn tagged(line: &str, content: &impl Serialize) -> serde_json::Result<String> {
            serde_json::to_string(&Tagged { line, content })
        }
        let text = match self {
            Self::Header(header) => tagged("header", header),
            Self::Entry(entry) => tagged("entry", entry),
            Self::Checkpoint(signed) => tagged("checkpoint", signed),
            Self::End(signed) => tagged("end", signed),
        };
        Ok(text? + "\n")
    }

    pub fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Kind {
            Header,
            Entry,
            Checkpoint,
            End,
        }
        #[derive(Deserialize)]
        struct Tag {
            line: Kind,
        }
        Ok(match serde_json::from_str::<Tag>(text)?.line {
            Kind::Header => Self::Header(serde_json::from_str(text)?),
            Kind::Entry => Self::Entry(serde_json::from_str(text)?),
            Kind::Checkpoint => Self::Checkpoint(serde_json::from_str(text)?),
            Kind::End => Self::End(serde_json::from_str(text)?),
        })
    }
}
