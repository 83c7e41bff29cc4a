//! Which part of a file a request asks for (RFC 9110, section 14). Pure.

use std::ops::Range;

/// What a request wants of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Whole,
    /// These bytes; there is at least one.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Beyond,
}

/// What is asked for of a file of `size` bytes that is known by `tag`. What is not understood, and what asks for several parts, gets
/// the whole file; so does what has a part of another file.
pub fn asked(range: Option<&str>, if_range: Option<&str>, tag: Option<&str>, size: u64) -> Asked {
    let Some(range) = range else { return Asked::Whole };
    if if_range.is_some_and(|known| tag != Some(known.trim())) {
        return Asked::Whole;
    }
    let Some((unit, set)) = range.split_once('=') else { return Asked::Whole };
    let Some((first, last)) = set.split_once('-') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), last) if first < size && (last.is_some() || last_is_absent(set)) => {
            Asked::Part(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
        }
        (Some(_), last) if last.is_some() || last_is_absent(set) => Asked::Beyond,
        (None, Some(count)) if first.trim().is_empty() => {
            if count == 0 || size == 0 {
                Asked::Beyond
            } else {
                Asked::Part(size.saturating_sub(count)..size)
            }
        }
        _ => Asked::Whole,
    }
}

fn last_is_absent(set: &str) -> bool {
    set.trim_end().ends_with('-')
}

/// A number of any length; one that is too long for any file is as good as the longest.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ten(range: &str) -> Asked {
        asked(Some(range), None, None, 10)
    }

    #[test]
    fn one_part_is_what_it_says_within_the_file() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=2-", 2..10),
            ("bytes=9-99999999999999999999999", 9..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("Bytes= 2-5 ", 2..6),
        ] {
            assert_eq!(of_ten(range), Asked::Part(part), "{range}");
        }
    }

    #[test]
    fn what_is_not_there_is_beyond() {
        for range in ["bytes=10-", "bytes=10-12", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(of_ten(range), Asked::Beyond, "{range}");
        }
    }

    #[test]
    fn what_is_not_understood_and_several_parts_get_the_whole_file() {
        for range in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1-b", "lines=1-2", "bytes=0-1,3-4", "bytes=+1-2"]
        {
            assert_eq!(of_ten(range), Asked::Whole, "{range}");
        }
    }

    #[test]
    fn a_part_of_another_file_is_not_continued() {
        let continued = |known: &str| asked(Some("bytes=2-"), Some(known), Some("\"a\""), 10);
        assert_eq!(continued("\"a\""), Asked::Part(2..10));
        for known in ["\"b\"", "W/\"a\"", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(continued(known), Asked::Whole, "{known}");
        }
    }
}
