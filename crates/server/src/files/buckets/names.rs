//! What buckets and objects may be called, and which types a bucket takes. Pure.

use std::ops::Deref;

use serde::Deserialize;

/// The longest name of a bucket.
const LONGEST_BUCKET: usize = 63;
/// The longest name of an object, in characters.
const LONGEST_NAME: usize = 255;

/// The name of a bucket, as it stands in a path.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct BucketName(String);

impl TryFrom<String> for BucketName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_bucket(&name) {
            Ok(Self(name))
        } else {
            Err("the name of a bucket is 1 to 63 letters, digits, '_' and '-'".to_owned())
        }
    }
}

impl Deref for BucketName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

pub fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=LONGEST_BUCKET).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a folder may be called so, or an object renamed to it.
pub fn is_object(name: &str) -> bool {
    let odd = |character: char| character.is_control() || character == '/' || character == '\\';
    let is_dots = name.chars().all(|character| character == '.');
    name.trim() == name && !is_dots && name.chars().count() <= LONGEST_NAME && !name.contains(odd)
}

/// Whether it is a media type or all of a kind, as `image/*`.
pub fn is_pattern(text: &str) -> bool {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte));
    text.len() <= 127 && text.split_once('/').is_some_and(|(kind, sub)| token(kind) && (sub == "*" || token(sub)))
}

/// Whether a bucket that takes these takes a file of that type.
pub fn takes(patterns: &[String], content_type: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix("/*") {
        Some(kind) => content_type.split_once('/').is_some_and(|(of, _)| of.eq_ignore_ascii_case(kind)),
        None => pattern.eq_ignore_ascii_case(content_type),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_plain_name_and_an_object_one_that_is_no_path() {
        for name in ["a", "My-Bucket_1", &"x".repeat(63)] {
            assert!(is_bucket(name), "{name}");
        }
        for name in ["", "a b", "a/b", "ä", "a:b", &"x".repeat(64)] {
            assert!(!is_bucket(name), "{name}");
        }
        for name in ["a", "Übersicht 1.pdf", ".hidden"] {
            assert!(is_object(name), "{name}");
        }
        for name in ["", " ", " a", "..", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(!is_object(name), "{name:?}");
        }
    }

    #[test]
    fn a_type_is_taken_by_its_name_or_by_its_kind() {
        let patterns = ["image/*".to_owned(), "text/csv".to_owned()];
        for (content_type, taken) in [("image/png", true), ("text/csv", true), ("text/html", false), ("imagine/png", false)] {
            assert_eq!(takes(&patterns, content_type), taken, "{content_type}");
        }
        for (pattern, valid) in
            [("image/*", true), ("text/csv", true), ("*/*", false), ("image", false), ("/png", false), ("a/b c", false)]
        {
            assert_eq!(is_pattern(pattern), valid, "{pattern}");
        }
    }
}
