//! What can go wrong before a child runs.

use std::{io, path::PathBuf};

/// Why a child could not be started in its jail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the jail's policy names {}, which cannot be opened: {source}. Create it or take it from the policy", .path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("the rules about files could not be made: {0}. Check `support()`: the kernel may lack Landlock")]
    Files(String),
    #[error("the jail could not be prepared: {0}")]
    Prepare(#[source] io::Error),
    #[error("{program} could not be started in its jail: {source}. Check that the account may execute it and enter its folder")]
    Spawn { program: String, source: io::Error },
    #[error("the child did not hand its connections over: {0}")]
    Handover(#[source] io::Error),
}
