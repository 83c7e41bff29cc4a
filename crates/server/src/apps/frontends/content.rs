//! What a browser is told about a file: its type, and how long it may keep it. Pure.

/// What a build names after the content never changes under that name.
pub const FOREVER: &str = "public, max-age=31536000, immutable";
/// Everything else may be another file after the next deployment.
pub const SOON: &str = "public, max-age=60, must-revalidate";
/// Characters of the hash in names that builders give.
const HASH: usize = 8;

/// Types by the ends of names, and whether the content gets shorter when it is compressed.
const TYPES: [(&str, &str, bool); 24] = [
    ("html", "text/html; charset=utf-8", true),
    ("js", "text/javascript; charset=utf-8", true),
    ("mjs", "text/javascript; charset=utf-8", true),
    ("css", "text/css; charset=utf-8", true),
    ("json", "application/json", true),
    ("map", "application/json", true),
    ("webmanifest", "application/manifest+json", true),
    ("svg", "image/svg+xml", true),
    ("txt", "text/plain; charset=utf-8", true),
    ("md", "text/plain; charset=utf-8", true),
    ("xml", "application/xml", true),
    ("wasm", "application/wasm", true),
    ("ico", "image/x-icon", true),
    ("ttf", "font/ttf", true),
    ("otf", "font/otf", true),
    ("woff", "font/woff", false),
    ("woff2", "font/woff2", false),
    ("png", "image/png", false),
    ("jpg", "image/jpeg", false),
    ("jpeg", "image/jpeg", false),
    ("gif", "image/gif", false),
    ("webp", "image/webp", false),
    ("avif", "image/avif", false),
    ("pdf", "application/pdf", false),
];

fn end(path: &str) -> Option<&'static (&'static str, &'static str, bool)> {
    let (_, end) = path.rsplit_once('.')?;
    TYPES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(end))
}

/// The media type of a file; bytes that nobody shows where the name says nothing.
pub fn media_type(path: &str) -> &'static str {
    end(path).map_or("application/octet-stream", |(_, media_type, _)| media_type)
}

/// Whether compressing is worth a try.
pub fn is_compressible(path: &str) -> bool {
    end(path).is_some_and(|(.., compressible)| *compressible)
}

/// Whether a name holds a hash of the content, as builders make them: `index-BX3f9k2a.js`, `main.3fa85f64.css`.
pub fn is_fingerprinted(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    let Some(at) = stem.len().checked_sub(HASH) else { return false };
    let (Some(before), Some(hash)) = (stem.get(..at), stem.get(at..)) else { return false };
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    // Words have neither.
    let is_random = hash.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    before.len() > 1 && before.ends_with(['-', '.']) && is_hash && is_random
}

/// Whether a path names a page of the app, which its own script shows, and not a file.
pub fn is_page(path: &str) -> bool {
    !path.rsplit('/').next().unwrap_or_default().contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in ["assets/index-BX3f9k2a.js", "main.3fa85f64.css", "assets/logo-D_8k-3zQ.svg"] {
            assert!(is_fingerprinted(name), "{name}");
        }
        for name in ["index.html", "user-settings.js", "favicon.ico", "a.js", "-BX3f9k2a.js", "robots.txt", "assets/12345678.js"]
        {
            assert!(!is_fingerprinted(name), "{name}");
        }
    }

    #[test]
    fn what_has_no_known_end_is_bytes() {
        assert_eq!(media_type("a/INDEX.HTML"), "text/html; charset=utf-8");
        assert_eq!((media_type("LICENSE"), media_type("x.exe")), ("application/octet-stream", "application/octet-stream"));
        assert!(is_page("contacts/42") && is_page("") && !is_page("assets/x.js"));
    }
}
