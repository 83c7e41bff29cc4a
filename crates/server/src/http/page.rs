//! Lists in pages: how many rows a page has, and the opaque cursor to the next one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::problem::{Code, Problem};

/// Rows per page at most.
const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

/// Where a list that is a plain array says how it goes on.
pub const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-weft-next-cursor");

/// A page of a list that is a plain array.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many, 1 to 200; 50 when absent.
    limit: Option<i64>,
    /// What the header `x-weft-next-cursor` of the page before says.
    cursor: Option<String>,
}

impl Paging {
    /// How many rows, and after which.
    pub fn read(&self) -> Result<(i64, Option<Uuid>), Problem> {
        let after = self.cursor.as_deref().map(read).transpose()?.map(Uuid::from_bytes);
        Ok((limit(self.limit)?, after))
    }
}

/// Where the list goes on, as a header.
pub fn next(cursor: Option<String>) -> HeaderMap {
    let value = cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok());
    value.map(|value| (NEXT_CURSOR, value)).into_iter().collect()
}

/// One row more than a page has tells whether there is another page.
pub const ONE_MORE: i64 = 1;

/// How many rows a caller gets.
pub fn limit(wanted: Option<i64>) -> Result<i64, Problem> {
    limit_within(wanted, DEFAULT_LIMIT, MAX_LIMIT)
}

/// The same of a list with bounds of its own.
pub fn limit_within(wanted: Option<i64>, default: i64, most: i64) -> Result<i64, Problem> {
    let limit = wanted.unwrap_or(default);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::new(Code::InvalidRequest, format!("limit must be 1 to {most}.")))
    }
}

/// Cuts off the row that is one too many, and makes the cursor to the next page if there was one.
pub fn cut<T, const N: usize>(rows: &mut Vec<T>, limit: i64, key: impl FnOnce(&T) -> [u8; N]) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|row| URL_SAFE_NO_PAD.encode(key(row)))
}

/// The key that a cursor stands for.
pub fn read<const N: usize>(cursor: &str) -> Result<[u8; N], Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Problem::new(Code::InvalidRequest, "cursor is none that this list gave out."))
}
