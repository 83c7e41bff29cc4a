//! OAuth scopes. A scope narrows a token to one permission key.
//!
//! The scopes of the platform's public API have names of their own, one to one with permission keys. Any other scope is a
//! permission key as it is, wildcards included.

use crate::{PermissionKey, PermissionSet};

/// The scopes with names of their own, each with the key that it stands for.
pub const NAMED: [(&str, &str); 7] = [
    ("integration.connections.read", "connections:read"),
    ("integration.connections.write", "connections:write"),
    ("integration.providers.write", "providers:write"),
    ("integration.runs.read", "admin:runs.read"),
    ("integration.credentials.rotate", "credentials:rotate"),
    ("webhooks.subscriptions.write", "subscriptions:write"),
    ("webhooks.deliveries.ingest", "deliveries:ingest"),
];

/// A scope that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scope '{0}' is neither one of this platform's scopes nor a permission key")]
pub struct InvalidScope(String);

/// The key that a scope stands for.
pub fn key(scope: &str) -> Result<&str, InvalidScope> {
    if let Some((_, key)) = NAMED.iter().find(|(name, _)| *name == scope) {
        return Ok(key);
    }
    scope.parse::<PermissionKey>().map(|_| scope).map_err(|error| InvalidScope(error.key))
}

/// The scope to ask for to get a token that holds `key`.
pub fn of(key: &str) -> &str {
    NAMED.iter().find(|(_, named)| *named == key).map_or(key, |(name, _)| name)
}

/// The permissions that a list of scopes, separated by spaces, stands for.
pub fn permissions(scopes: &str) -> Result<PermissionSet, InvalidScope> {
    scopes.split(' ').filter(|scope| !scope.is_empty()).map(|scope| key(scope).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn named_scopes_and_keys_are_one_to_one() {
        let (names, keys): (BTreeSet<_>, BTreeSet<_>) = NAMED.into_iter().unzip();
        assert_eq!((names.len(), keys.len()), (NAMED.len(), NAMED.len()));
        for (name, named) in NAMED {
            assert_eq!((key(name), of(named)), (Ok(named), name));
            assert!(named.parse::<PermissionKey>().is_ok());
        }
    }

    #[test]
    fn other_scopes_are_permission_keys() {
        assert_eq!(key("app:crm:*"), Ok("app:crm:*"));
        assert_eq!(of("app:crm:invoke"), "app:crm:invoke");
        assert!(key("Openid").is_err() && key("").is_err());
        let set = permissions("integration.runs.read  app:crm:*").expect("both are known");
        assert!(set.allows("admin:runs.read") && set.allows("app:crm:invoke") && !set.allows("integration.runs.read"));
        assert!(permissions("openid PROFILE").is_err());
    }
}
