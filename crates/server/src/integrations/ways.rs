//! The ways to connect an integration, as they are shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use weft_model::manifest::{Content, NamedWay, UserAuth};

/// One of the ways to connect an integration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConnectionWay)]
pub struct OfferedWay {
    /// What to name it by when one begins to connect.
    name: String,
    /// What people choose it by.
    title: Option<String>,
    description: Option<String>,
    /// `redirect`, `credentials`, `oauth2`, `oauth1` or `token`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What people enter, where they enter something.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// Whether everything that this way needs of the configuration has a value.
    configured: bool,
    /// What has none.
    missing: Vec<String>,
}

/// The ways of an integration, the first one first.
pub fn offered(content: &Content, lacks: impl Fn(&NamedWay) -> Vec<String>) -> Vec<OfferedWay> {
    let show = |named: &NamedWay| {
        let missing = lacks(named);
        OfferedWay {
            name: named.name().to_owned(),
            title: named.title.clone(),
            description: named.description.clone(),
            kind: named.way.as_str(),
            schema: named.way.form().cloned(),
            configured: missing.is_empty(),
            missing,
        }
    };
    content.user_auth.iter().flat_map(UserAuth::ways).map(show).collect()
}
