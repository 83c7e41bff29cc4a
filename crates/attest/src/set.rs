//! Several public keys, found by the name that a token's header gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{InvalidKey, Jwk, PublicKey, Refused};

/// The keys of a server, as a JSON Web Key Set publishes them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct KeySet {
    keys: BTreeMap<String, PublicKey>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

impl KeySet {
    pub fn get(&self, id: &str) -> Option<&PublicKey> {
        self.keys.get(id)
    }

    /// The names of the keys, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Checks a token with the key that its header names, as [`PublicKey::verify`] does.
    pub fn verify<T: DeserializeOwned>(&self, kind: &str, token: &str) -> Result<T, Refused> {
        self.verify_named(kind, token).map(|(claims, _)| claims)
    }

    /// The same, with the name of the key.
    pub fn verify_named<T: DeserializeOwned>(&self, kind: &str, token: &str) -> Result<(T, String), Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused)?;
        let key = header.kid.and_then(|id| self.get(&id)).ok_or(Refused)?;
        Ok((key.verify(kind, token)?, key.id().to_owned()))
    }
}

impl FromIterator<PublicKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.id().to_owned(), key)).collect() }
    }
}

impl TryFrom<Document> for KeySet {
    type Error = InvalidKey;

    fn try_from(document: Document) -> Result<Self, InvalidKey> {
        document.keys.into_iter().map(PublicKey::try_from).collect()
    }
}

impl From<KeySet> for Document {
    fn from(set: KeySet) -> Self {
        Self { keys: set.keys.into_values().map(|key| key.jwk().clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::SigningKey;

    #[test]
    fn a_token_is_checked_with_the_key_it_names() {
        let (first, second, stranger) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
        let set: KeySet = [first.public().clone(), second.public().clone()].into_iter().collect();
        let published: KeySet = serde_json::from_value(serde_json::to_value(&set).expect("JSON")).expect("its own document");
        for key in [first, second] {
            assert!(published.verify::<Value>("t", &key.sign("t", &json!({}))).is_ok());
        }
        assert_eq!(published.verify::<Value>("t", &stranger.sign("t", &json!({}))), Err(Refused));
        assert_eq!(published.verify::<Value>("t", "rubbish"), Err(Refused));
    }
}
