//! A log whose entries hang together: each has a hash over its own text and the hash before it.
//!
//! Whoever changes, removes, inserts or moves an entry breaks the chain from there on, unless they also compute everything after
//! it anew; and then it no longer ends in the hash that somebody signed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

/// The hash that stands for a chain up to one of its entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link([u8; 32]);

impl Link {
    /// Where the chain of this name begins.
    pub fn start(chain: &str) -> Self {
        Self(Sha256::new().chain_update(b"weft chain 1 start\n").chain_update(chain).finalize().into())
    }

    /// The chain with one entry more.
    #[must_use]
    pub fn then(&self, entry: &str) -> Self {
        Self(Sha256::new().chain_update(b"weft chain 1 entry\n").chain_update(self.0).chain_update(entry).finalize().into())
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Link {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({self})")
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(|_| D::Error::custom("a hash is 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_its_chain_on_every_entry_and_on_their_order() {
        let chain = |name: &str, entries: &[&str]| entries.iter().fold(Link::start(name), |link, entry| link.then(entry));
        let all = [
            chain("a", &[]),
            chain("b", &[]),
            chain("a", &["1", "2"]),
            chain("a", &["2", "1"]),
            chain("a", &["12"]),
            chain("a", &["1", "2", ""]),
        ];
        for (index, link) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(link), "{index}");
        }
        assert_eq!(chain("a", &["1", "2"]), all[2]);
        let text = serde_json::to_string(&all[2]).expect("JSON");
        assert_eq!(serde_json::from_str::<Link>(&text).expect("its own text"), all[2]);
        assert!(serde_json::from_str::<Link>("\"ab\"").is_err());
    }

    /// Fixed, because files that were written years ago have to be checked: computed apart from this code.
    #[test]
    fn the_way_of_hashing_stays() {
        assert_eq!(
            Link::start("acme").then("{}").to_string(),
            "d9f933dcf9641df69c3cfe1e7088ecb22e3d82462babcd845becf6b822a9e4d1"
        );
    }
}
