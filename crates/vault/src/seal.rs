//! Sealed bytes and the place they belong to.

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

const NONCE_LENGTH: usize = 12;

/// Where a sealed value belongs, outermost first, for example `["default", "platform", "SLACK_BOT_TOKEN", "3"]`.
///
/// The parts are encoded with their lengths, so `["ab", "c"]` and `["a", "bc"]` differ.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a>(pub &'a [&'a str]);

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.0 {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// A nonce followed by ciphertext and tag: what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// The value does not open: another key, another place, or changed bytes. Which one cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value does not open with this key at this place")]
pub struct CannotOpen;

pub(crate) fn seal(key: &[u8; 32], plaintext: &[u8], place: Place<'_>) -> Sealed {
    let mut nonce = [0; NONCE_LENGTH];
    rand::fill(&mut nonce);
    let payload = Payload { msg: plaintext, aad: &place.associated_data() };
    let ciphertext = cipher(key).encrypt(&Nonce::from(nonce), payload).expect("AES-GCM seals any value shorter than 64 GiB");
    Sealed([nonce.as_slice(), &ciphertext].concat())
}

pub(crate) fn open(key: &[u8; 32], sealed: &Sealed, place: Place<'_>) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
    let (nonce, ciphertext) = sealed.0.split_first_chunk::<NONCE_LENGTH>().ok_or(CannotOpen)?;
    let payload = Payload { msg: ciphertext, aad: &place.associated_data() };
    cipher(key).decrypt(&Nonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| CannotOpen)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
}
