//! `[files]`: where files lie, and how large they may be.

use std::path::PathBuf;

use serde::Deserialize;
use weft_model::Secret;

use super::Problems;
use crate::files::{Limits, Target};

const MIB: u64 = 1024 * 1024;

/// The section as written; what is absent comes from the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilesFile {
    max_mib: Option<u64>,
    tenant_mib: Option<u64>,
    directory: Option<PathBuf>,
    s3: Option<S3File>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3File {
    endpoint: Option<String>,
    region: Option<String>,
    bucket: Option<String>,
    prefix: Option<String>,
}

/// The section, checked.
#[derive(Debug, Clone)]
pub struct Store {
    pub target: Target,
    pub limits: Limits,
}

impl FilesFile {
    pub(super) fn check(self, default: &Self, (key, secret): (Option<String>, Option<String>), problems: &mut Problems) -> Store {
        let max = self.max_mib.or(default.max_mib).unwrap_or(256);
        if max == 0 {
            problems.add("files.max_mib: with 0 no file could ever be stored: at least 1".to_owned());
        }
        let tenant = self.tenant_mib.or(default.tenant_mib).filter(|most| *most > 0).map(|most| most.saturating_mul(MIB));
        let target = match (self.directory, self.s3) {
            (directory, None) => Target::Folder(directory),
            (Some(_), Some(_)) => {
                problems.add("files: either directory or [files.s3], not both".to_owned());
                Target::Folder(None)
            }
            (None, Some(s3)) => s3.check((key, secret), problems),
        };
        Store { target, limits: Limits { file: max.saturating_mul(MIB), tenant } }
    }
}

impl S3File {
    fn check(self, (key, secret): (Option<String>, Option<String>), problems: &mut Problems) -> Target {
        let mut needed = |name: &str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).unwrap_or_else(|| {
                problems.add(format!("{name}: is needed for [files.s3]"));
                String::new()
            })
        };
        let bucket = needed("files.s3.bucket", self.bucket);
        let key = needed("WEFT_S3_ACCESS_KEY_ID", key);
        let secret = Secret::new(needed("WEFT_S3_SECRET_ACCESS_KEY", secret));
        let endpoint = self.endpoint.and_then(|url| problems.http_url("files.s3.endpoint", &url));
        let (region, prefix) = (self.region.unwrap_or_else(|| "us-east-1".to_owned()), self.prefix.unwrap_or_default());
        Target::S3 { endpoint, region, bucket, prefix, key, secret }
    }
}
