//! What a file is called and what it holds. Pure.

/// The longest name, in characters.
const LONGEST_NAME: usize = 255;
const UNKNOWN: &str = "application/octet-stream";
/// How much of a file is looked at.
pub const HEAD: usize = 8192;
/// What the older route takes, by the ends of names.
const KNOWN_ENDS: [&str; 20] = [
    "csv", "json", "xml", "txt", "pdf", "png", "jpg", "jpeg", "gif", "webp", "svg", "xlsx", "xls", "doc", "docx", "zip", "gz",
    "parquet", "md", "ics",
];

/// A name as it is kept: what stands behind the last separator, without what no name needs.
pub fn name(given: Option<&str>) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|character| !character.is_control()).take(LONGEST_NAME).collect();
    let name = name.trim();
    if name.is_empty() || name.chars().all(|character| character == '.') { "file".to_owned() } else { name.to_owned() }
}

/// The end of a name that the older route does not take.
pub fn unknown_end(name: &str) -> Option<String> {
    let end = name.rsplit_once('.').map_or(String::new(), |(_, end)| end.to_ascii_lowercase());
    (!KNOWN_ENDS.contains(&end.as_str())).then_some(end)
}

/// The type of a file: what its first bytes show, else what was said, unless they would show that.
pub fn kind(head: &[u8], said: Option<&str>) -> String {
    if let Some(seen) = infer::get(head) {
        return seen.mime_type().to_owned();
    }
    let said =
        said.map(|said| said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).filter(|said| is_type(said));
    match said {
        // Files of these kinds begin in a way that would have been seen.
        Some(said)
            if ["image/", "video/", "audio/", "font/"].iter().any(|kind| said.starts_with(kind)) && !said.ends_with("+xml") =>
        {
            UNKNOWN.to_owned()
        }
        Some(said) => said,
        None if !head.is_empty() && std::str::from_utf8(whole_characters(head)).is_ok_and(|text| !text.contains('\0')) => {
            "text/plain".to_owned()
        }
        None => UNKNOWN.to_owned(),
    }
}

/// Leaves out a character that was cut off at the end.
fn whole_characters(head: &[u8]) -> &[u8] {
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => head.get(..error.valid_up_to()).unwrap_or(head),
        _ => head,
    }
}

fn is_type(text: &str) -> bool {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte));
    text.len() <= 127 && text.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// How a browser is told the name: always as something to save.
pub fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|character| if character.is_ascii_graphic() && !"\"\\%".contains(character) { character } else { '_' })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_no_header() {
        for (given, kept) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\report.pdf", "report.pdf"),
            ("a\r\nSet-Cookie: b", "aSet-Cookie: b"),
            ("..", "file"),
            ("", "file"),
        ] {
            assert_eq!(name(Some(given)), kept);
        }
        let long = "x".repeat(300);
        assert_eq!(name(Some(&long)).len(), 255);
        assert_eq!(
            disposition("Übersicht \"1\".pdf"),
            "attachment; filename=\"_bersicht__1_.pdf\"; filename*=UTF-8''%C3%9Cbersicht%20%221%22.pdf"
        );
    }

    #[test]
    fn what_is_seen_counts_more_than_what_is_said() {
        let png = b"\x89PNG\r\n\x1a\n0000";
        assert_eq!(kind(png, Some("text/plain")), "image/png");
        assert_eq!(kind(b"<html><script>", Some("image/png")), "text/html");
        assert_eq!(kind(b"hello", Some("image/png")), "application/octet-stream");
        assert_eq!(kind(b"a,b\n1,2", Some("text/csv; charset=utf-8")), "text/csv");
        assert_eq!(kind("grüße".as_bytes().split_last().expect("some").1, None), "text/plain");
        assert_eq!(kind(b"\x00\x01", Some("not a type")), "application/octet-stream");
    }

    #[test]
    fn the_older_route_goes_by_the_ends_of_names() {
        assert_eq!(unknown_end("A.PDF"), None);
        assert_eq!(unknown_end("run.exe").as_deref(), Some("exe"));
        assert_eq!(unknown_end("none").as_deref(), Some(""));
    }
}
