//! What the database roles of an app are called. Pure.

use sha2::{Digest, Sha256};
use weft_model::AppId;

/// The role that runs SQL of an app's backend. The database tells roles of apps from all others by how these names begin.
pub fn of_backend(installation: &str, app: &AppId) -> String {
    // A cluster may have other installations, and PostgreSQL cuts long names off.
    let digest = hex::encode(Sha256::digest(app.as_str()));
    format!("weft_{installation}_{}", digest.get(..24).unwrap_or_default())
}

/// The role that runs an app's migrations and owns what they make.
pub fn of_migrations(installation: &str, app: &AppId) -> String {
    format!("{}_owner", of_backend(installation, app))
}

/// Both.
pub fn names(installation: &str, app: &AppId) -> [String; 2] {
    [of_backend(installation, app), of_migrations(installation, app)]
}
