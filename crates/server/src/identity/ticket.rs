//! Things that are worth what they say: whoever shows one gets in. Handed out once, and known here only by their digest.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Characters of a ticket: 32 random bytes in base64url.
const LENGTH: usize = 43;

/// A new ticket.
pub fn generate() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is stored of a ticket.
pub fn digest(ticket: &str) -> Vec<u8> {
    Sha256::digest(ticket.as_bytes()).to_vec()
}

/// Whether a text can be a ticket at all.
pub fn is_well_formed(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_differ_and_are_well_formed() {
        let (one, other) = (generate(), generate());
        assert!(is_well_formed(&one) && is_well_formed(&other));
        assert_ne!(one, other);
        assert_ne!(digest(&one), digest(&other));
        for bad in ["", &one[1..], &format!("{one}a"), &one.replace(&one[..1], "!")] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
