//! Fetching a document or an archive from an address that the user named.

use std::time::Duration;

use reqwest::Url;

use crate::error::{CliError, Result};

const TIMEOUT: Duration = Duration::from_mins(2);

/// The address that a text is, if it is one; else it names a file.
pub fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Fetches what is at an address, `largest` bytes at most; also where it came from in the end.
pub async fn download(url: &Url, largest: usize) -> Result<(Vec<u8>, Url)> {
    let failed = |error: reqwest::Error| CliError::failed(format!("cannot fetch {url}: {error}"));
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(failed)?;
    let request = client.get(url.clone());
    let mut response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let source = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > largest {
            return Err(CliError::failed(format!("{url} is larger than {} MiB", largest / 1024 / 1024)));
        }
    }
    Ok((bytes, source))
}
