//! Permission keys, what a granted key covers, and sets of them.
//!
//! A key is a colon-separated path such as `integration:slack:send_message`. A grant covers a required key when it is `*`,
//! equal to it, or ends in `:*` and the required key lies below that prefix. There are no partial wildcards:
//! `app:crm:contacts.*` covers only itself.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A permission key that follows the grammar `[a-z0-9_:.*]+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct PermissionKey(String);

/// A key with a character outside the grammar, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("permission key '{key}' must be made of a-z, 0-9, '_', ':', '.' and '*'")]
pub struct InvalidKey {
    pub key: String,
}

impl PermissionKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PermissionKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:.*".contains(&byte);
        if !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidKey { key: text.chars().take(255).collect() })
        }
    }
}

impl TryFrom<String> for PermissionKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PermissionKey> for String {
    fn from(key: PermissionKey) -> Self {
        key.0
    }
}

impl fmt::Display for PermissionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a principal may do: the union of everything granted to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionSet {
    granted: BTreeSet<String>,
}

impl PermissionSet {
    /// Whether any grant covers `required`.
    pub fn allows(&self, required: &str) -> bool {
        if self.granted.contains("*") || self.granted.contains(required) {
            return true;
        }
        // The prefixes of the required key, longest first: a:b:c is covered by a:b:* and a:*.
        let mut prefix = required;
        while let Some((shorter, _)) = prefix.rsplit_once(':') {
            if self.granted.contains(&format!("{shorter}:*")) {
                return true;
            }
            prefix = shorter;
        }
        false
    }

    /// Whether the set holds `*` itself.
    pub fn is_administrator(&self) -> bool {
        self.granted.contains("*")
    }

    /// The first grant of `other` that this set does not cover; `None` when `other` may do no more than this.
    pub fn exceeded_by<'a>(&self, other: &'a Self) -> Option<&'a str> {
        other.iter().find(|key| !self.allows(key))
    }

    /// What both sets allow: every grant of one that the other covers.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let covered =
            |set: &Self, by: &Self| -> Vec<String> { set.granted.iter().filter(|key| by.allows(key)).cloned().collect() };
        covered(self, other).into_iter().chain(covered(other, self)).collect()
    }

    /// The grants, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.granted.iter().map(String::as_str)
    }
}

impl FromIterator<String> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = String>>(keys: I) -> Self {
        Self { granted: keys.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(keys: &[&str]) -> PermissionSet {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn grants_cover_what_lies_below_them() {
        for (granted, required, expected) in [
            ("*", "anything:at.all", true),
            ("app:crm:invoke", "app:crm:invoke", true),
            ("app:crm:*", "app:crm:contacts.read", true),
            ("app:crm:*", "app:crm:action:x", true),
            ("app:crm:*", "app:crm2:invoke", false),
            ("app:crm:*", "app:crm", false),
            ("app:*", "app:crm:invoke", true),
            ("app:crm:contacts.*", "app:crm:contacts.read", false),
            ("integration:slack:send_message", "integration:slack:send", false),
        ] {
            assert_eq!(set(&[granted]).allows(required), expected, "{granted} over {required}");
        }
    }

    #[test]
    fn keys_outside_the_grammar_are_refused() {
        for bad in ["", "App:x", "a b", "a,b", "a-b"] {
            assert!(bad.parse::<PermissionKey>().is_err(), "{bad}");
        }
    }

    /// The rule as the module states it, written the slow way.
    fn covers(granted: &str, required: &str) -> bool {
        granted == "*"
            || granted == required
            || granted.strip_suffix(":*").is_some_and(|prefix| required.starts_with(&format!("{prefix}:")))
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 1..4).prop_map(|parts| parts.join(":"))
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_rule(granted in prop::collection::vec(key(), 0..5), required in key()) {
            let set: PermissionSet = granted.iter().cloned().collect();
            prop_assert_eq!(set.allows(&required), granted.iter().any(|grant| covers(grant, &required)));
        }

        #[test]
        fn an_intersection_allows_only_what_both_allow(
            left in prop::collection::vec(key(), 0..5),
            right in prop::collection::vec(key(), 0..5),
            required in key(),
        ) {
            let (left, right): (PermissionSet, PermissionSet) = (left.into_iter().collect(), right.into_iter().collect());
            let both = left.intersection(&right);
            prop_assert_eq!(both.allows(&required), left.allows(&required) && right.allows(&required));
        }

        #[test]
        fn a_set_is_exceeded_by_the_first_grant_that_it_does_not_cover(
            left in prop::collection::vec(key(), 0..5),
            right in prop::collection::vec(key(), 0..5),
        ) {
            let mut beyond: Vec<_> = right.iter().filter(|required| !left.iter().any(|granted| covers(granted, required))).collect();
            beyond.sort_unstable();
            let expected = beyond.first().map(|key| key.as_str());
            let (left, others): (PermissionSet, PermissionSet) = (left.iter().cloned().collect(), right.iter().cloned().collect());
            prop_assert_eq!(left.exceeded_by(&others), expected);
            let both = left.intersection(&others);
            prop_assert_eq!((left.exceeded_by(&both), others.exceeded_by(&both)), (None, None));
        }
    }
}
