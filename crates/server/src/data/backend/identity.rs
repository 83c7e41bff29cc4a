//! Who calls, as the database is told: a text for one transaction and one role, signed so that SQL of an app cannot say it.
//!
//! The other half is `weft_sql.identity()` in the database, which believes a text only within the transaction that it names.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};
use weft_data::sql::{ident, literal};

use super::{Asker, actor};

const BLOCK: usize = 64;
/// As PostgreSQL itself has them.
const SALT: usize = 16;
const ITERATIONS: u32 = 4096;
/// What the server gives a statement beyond the time that PostgreSQL gives it.
const GRACE: Duration = Duration::from_secs(1);
/// The way in which migrations change records.
pub const MIGRATION: &str = "migration";

/// The secret that passwords of roles and signatures follow from.
pub struct Key(pub [u8; 32]);

impl Key {
    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(purpose);
        mac.finalize().into_bytes().into()
    }

    /// The password of a role.
    pub fn password(&self, role: &str) -> String {
        hex::encode(self.derive(format!("password {role}").as_bytes()))
    }

    /// What the database checks that password with (RFC 5803), so that the password itself is in no statement and no log.
    pub fn verifier(&self, role: &str) -> String {
        let salt = self.derive(format!("salt {role}").as_bytes());
        let salt = salt.get(..SALT).unwrap_or(&salt);
        let password = self.password(role);
        let keyed = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().into()
        };
        let mut last = keyed(password.as_bytes(), &[salt, &[0, 0, 0, 1]]);
        let mut salted = last;
        for _ in 1..ITERATIONS {
            last = keyed(password.as_bytes(), &[&last]);
            for (sum, byte) in salted.iter_mut().zip(last) {
                *sum ^= byte;
            }
        }
        let stored = Sha256::digest(keyed(&salted, &[b"Client Key"]));
        let server = keyed(&salted, &[b"Server Key"]);
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", text(salt), text(&stored), text(&server))
    }

    /// What the database checks signatures with: the key of HMAC, as its inner and its outer pad.
    pub fn pads(&self) -> (Vec<u8>, Vec<u8>) {
        let key = self.derive(b"identity");
        let pad = |with: u8| (0..BLOCK).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect();
        (pad(0x36), pad(0x5c))
    }

    fn sign(&self, payload: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.derive(b"identity")).expect("HMAC takes keys of every length");
        mac.update(payload.as_bytes());
        format!("{}{payload}", hex::encode(mac.finalize().into_bytes()))
    }
}

/// Where statements run, how, and how long each may take.
pub struct Place<'a> {
    pub role: &'a str,
    /// The number of the transaction.
    pub transaction: &'a str,
    /// By which way, as the audit names it.
    pub trigger: &'a str,
    pub limit: Duration,
}

/// What a transaction is told about who calls, and where it finds itself.
pub struct Identity {
    settings: String,
    limit: Duration,
}

impl Identity {
    /// For one transaction.
    pub fn new(key: &Key, asker: &Asker, place: &Place<'_>, at: chrono::DateTime<chrono::Utc>) -> Self {
        let Place { role, transaction, trigger, limit } = *place;
        let (caller, app) = (&asker.caller, &asker.app);
        let own = format!("app:{app}:");
        // Nothing else matters to this app's tables.
        let grants = caller.permissions.iter().filter(|key| *key == "*" || *key == "app:*" || key.starts_with(&own));
        let payload = json!({
            "transaction": transaction,
            "role": role,
            "app": app,
            "tenant": caller.tenant,
            "actor": actor(caller),
            "trigger": trigger,
            "trace": asker.trace.to_string(),
            "hops": asker.hops,
            "at": at,
            "grants": grants.collect::<Vec<_>>(),
        });
        let signed = literal(&key.sign(&payload.to_string()));
        let schema = ident(app.as_str());
        let time = limit.as_millis();
        // Said anew before each statement: a function that the app made may have said otherwise. What it raises is nobody's to hear.
        let settings = format!(
            "set local weft.identity = {signed}; set local search_path = {schema}; set local statement_timeout = {time}; \
             set local lock_timeout = {time}; set local client_min_messages = error"
        );
        Self { settings, limit }
    }

    /// The statements that tell it.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// What the server gives a statement: a moment more than PostgreSQL does, whose clock an app's function can stop.
    pub fn patience(&self) -> Duration {
        self.limit + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_can_check_signatures_with_the_pads_alone() {
        let key = Key([7; 32]);
        let (inner, outer) = key.pads();
        let signed = key.sign("payload");
        let digest = Sha256::digest([outer.as_slice(), &Sha256::digest([inner.as_slice(), b"payload"].concat())].concat());
        assert_eq!(signed, format!("{}payload", hex::encode(digest)));
        assert_ne!(key.password("a"), key.password("b"));
    }
}
