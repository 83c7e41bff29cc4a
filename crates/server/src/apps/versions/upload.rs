//! Archives on their way in: the multipart body that holds one, and its way to disk.

use axum::{
    body::Body,
    extract::{
        FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};

use super::service::Archive;
use crate::{
    apps::service::Apps,
    http::{
        BODY_LIMIT,
        problem::{Code, Problem},
    },
};

pub async fn form(request: Request<Body>) -> Result<Multipart, Problem> {
    let wanted = "Send the archive as multipart/form-data with a field named 'archive' that holds a tar.gz file.";
    Multipart::from_request(request, &()).await.map_err(|_| Problem::new(Code::InvalidArchive, wanted))
}

/// The next field. The archive may have any name.
pub async fn part(form: &mut Multipart) -> Result<Field<'_>, Problem> {
    let field = form.next_field().await.map_err(|error| broken(&error))?;
    field.ok_or_else(|| Problem::new(Code::InvalidArchive, "missing 'archive' field"))
}

/// Writes the archive to disk as it arrives.
pub async fn receive(apps: &Apps, mut field: Field<'_>) -> Result<Archive, Problem> {
    let mut spool = apps.receive().await?;
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        spool.write(&chunk).await.map_err(Problem::files)?;
        if spool.size() > BODY_LIMIT as u64 {
            return Err(too_large());
        }
    }
    spool.finish().await.map_err(Problem::files)
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("The archive is larger than {} MiB.", BODY_LIMIT / 1024 / 1024))
}

pub fn broken(error: &MultipartError) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        too_large()
    } else {
        Problem::new(Code::InvalidArchive, format!("The upload broke off: {}.", error.body_text()))
    }
}
