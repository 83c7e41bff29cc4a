//! Why a link is not made, or does not open.

use weft_model::Fault;

use crate::identity::Error as IdentityError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the document has faults")]
    Invalid(Vec<Fault>),
    #[error("you can confer only roles that you hold yourself; you do not hold: {}", .0.join(", "))]
    NotHeld(Vec<String>),
    #[error("invalid token")]
    Malformed,
    #[error("token invalid, already used, or expired: ask for a new link")]
    Gone,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}
