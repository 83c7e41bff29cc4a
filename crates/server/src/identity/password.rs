//! Passwords: the rule, hashing and checking. Argon2id with 19 MiB, two passes, one lane.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;
use weft_model::{Fault, Secret};

/// Hashing is costly on purpose; more at once than this would only make each slower and eat memory.
const AT_ONCE: usize = 2;

/// What a password must be that this one is not, as faults at `path`; empty when it will do.
pub fn faults(password: &str, path: &str) -> Vec<Fault> {
    let rules = [
        (password.chars().count() >= 10, "must have at least 10 characters"),
        (password.chars().any(char::is_uppercase), "must have an upper-case letter"),
        (password.chars().any(char::is_lowercase), "must have a lower-case letter"),
        (password.chars().any(|character| character.is_ascii_digit()), "must have a digit"),
        (password.len() <= 1024, "must have at most 1,024 bytes"),
    ];
    rules.into_iter().filter(|(kept, _)| !kept).map(|(_, message)| Fault::new(path, message)).collect()
}

/// Hashes and checks passwords, some at a time.
pub struct Passwords {
    turns: Semaphore,
    checks: Arc<AtomicU64>,
}

impl Passwords {
    pub fn new() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), checks: Arc::default() }
    }

    /// Hashes a password into a PHC string.
    pub async fn hash(&self, password: Secret<String>) -> String {
        self.blocking(move || hash_now(password.expose())).await
    }

    /// Whether `password` is the one that `hash` was made from. Without a hash, for an account that does not exist, it takes as long and
    /// is false.
    pub async fn verify(&self, password: Secret<String>, hash: Option<String>) -> bool {
        let checks = Arc::clone(&self.checks);
        self.blocking(move || {
            checks.fetch_add(1, Ordering::Relaxed);
            let Some(hash) = hash else {
                hash_now(password.expose());
                return false;
            };
            PasswordHash::new(&hash)
                .is_ok_and(|parsed| Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok())
        })
        .await
    }

    /// How many passwords were checked against a hash, or as if there were one. For tests.
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _permit = self.turns.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
    }
}

fn hash_now(password: &str) -> String {
    Argon2::default().hash_password(password.as_bytes()).expect("Argon2id takes any password").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_names_everything_that_is_missing() {
        for (password, missing) in
            [("Str0ngPass!x", 0), ("short", 3), ("alllowercase1", 1), ("ALLUPPERCASE1", 1), ("NoDigitsHere", 1)]
        {
            assert_eq!(faults(password, "$.password").len(), missing, "{password}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_fits() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let passwords = Passwords::new();
        let hash = passwords.hash(secret("Str0ngPass!x")).await;
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(secret("Str0ngPass!x"), Some(hash.clone())).await);
        assert!(!passwords.verify(secret("Str0ngPass!y"), Some(hash)).await);
        assert!(!passwords.verify(secret("nobody has this password"), None).await);
        assert_eq!(passwords.checks(), 3);
    }
}
