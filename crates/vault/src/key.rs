//! The two kinds of key.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::seal::{self, CannotOpen, Place, Sealed};

/// The key that wraps data keys. It is 32 bytes, written as 64 hexadecimal digits.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

/// Text that is no master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 64 hexadecimal digits (32 bytes); make one with: openssl rand -hex 32")]
pub struct InvalidMasterKey;

impl MasterKey {
    pub fn generate() -> Self {
        Self(random())
    }

    pub fn from_hex(text: &str) -> Result<Self, InvalidMasterKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| InvalidMasterKey)?;
        Ok(Self(bytes))
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }

    /// A public name for this key: it tells keys apart and says nothing about them.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(b"weft master key id").chain_update(self.0).finalize();
        hex::encode(digest.get(..8).unwrap_or_default())
    }

    pub fn wrap(&self, key: &DataKey, place: Place<'_>) -> Sealed {
        seal::seal(&self.0, &key.0, place)
    }

    pub fn unwrap(&self, wrapped: &Sealed, place: Place<'_>) -> Result<DataKey, CannotOpen> {
        let bytes = seal::open(&self.0, wrapped, place)?;
        bytes.as_slice().try_into().map(DataKey).map_err(|_| CannotOpen)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MasterKey({})", self.id())
    }
}

/// The key that seals values.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

impl DataKey {
    pub fn generate() -> Self {
        Self(random())
    }

    pub fn seal(&self, plaintext: &[u8], place: Place<'_>) -> Sealed {
        seal::seal(&self.0, plaintext, place)
    }

    pub fn open(&self, sealed: &Sealed, place: Place<'_>) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        seal::open(&self.0, sealed, place)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DataKey([redacted])")
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'static> = Place(&["tenant", "scope", "name"]);

    #[test]
    fn a_value_opens_where_it_was_sealed() {
        let key = DataKey::generate();
        let sealed = key.seal(b"xoxb-1", HERE);
        assert_eq!(key.open(&sealed, HERE).expect("the same key and place").as_slice(), b"xoxb-1");
        assert!(!sealed.0.windows(6).any(|window| window == b"xoxb-1"));
    }

    #[test]
    fn another_key_place_or_changed_bytes_are_refused() {
        let key = DataKey::generate();
        let sealed = key.seal(b"value", HERE);
        assert_eq!(DataKey::generate().open(&sealed, HERE), Err(CannotOpen));
        assert_eq!(key.open(&sealed, Place(&["tenant", "scopename"])), Err(CannotOpen));
        assert_eq!(key.open(&sealed, Place(&["tenan", "tscope", "name"])), Err(CannotOpen));
        for index in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[index] ^= 1;
            assert_eq!(key.open(&changed, HERE), Err(CannotOpen), "byte {index}");
        }
        assert_eq!(key.open(&Sealed(vec![1, 2, 3]), HERE), Err(CannotOpen));
    }

    #[test]
    fn data_keys_travel_wrapped() {
        let (master, key) = (MasterKey::generate(), DataKey::generate());
        let wrapped = master.wrap(&key, HERE);
        let same = master.unwrap(&wrapped, HERE).expect("the same master key");
        let sealed = key.seal(b"value", HERE);
        assert!(same.open(&sealed, HERE).is_ok());
        assert!(MasterKey::generate().unwrap(&wrapped, HERE).is_err());
    }

    #[test]
    fn a_master_key_is_sixty_four_hexadecimal_digits() {
        let key = MasterKey::generate();
        let again = MasterKey::from_hex(&format!("{}\n", key.to_hex().as_str())).expect("its own text");
        assert_eq!(key.id(), again.id());
        for bad in ["", "abc", &"g".repeat(64), &"0".repeat(63)] {
            assert!(MasterKey::from_hex(bad).is_err());
        }
        assert!(!format!("{key:?}").contains(key.to_hex().as_str()));
    }
}
