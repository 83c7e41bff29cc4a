//! Buckets, and what is put, moved and removed in them.

use sqlx::PgConnection;
use weft_model::{Fault, FileId, ObjectId, Principal, TenantId};

use super::{
    names,
    store::{self, Ancestor, Bucket, Object, Place},
};
use crate::{
    audit,
    files::{
        service::{self, Arrived, Files, Incoming, NewFile},
        store::File,
    },
};

/// The bucket that is always there.
const DEFAULT: &str = "default";
/// Folders in one another.
const DEPTH: usize = 32;
/// Types that a bucket may name.
const MOST_TYPES: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bucket breaks its rules")]
    Invalid(Vec<Fault>),
    #[error("bucket '{0}' already exists")]
    BucketExists(String),
    #[error("bucket '{0}'")]
    UnknownBucket(String),
    #[error("bucket 'default' is always there: it cannot be deleted")]
    IsDefault,
    #[error("bucket '{0}' has objects: delete them first")]
    NotEmpty(String),
    #[error("object {0}")]
    UnknownObject(ObjectId),
    #[error("folder {0}")]
    UnknownFolder(ObjectId),
    #[error("object {0} is a folder: it has no content")]
    IsFolder(ObjectId),
    #[error("'{0}' is no name: it must be 1 to 255 characters without '/', '\\' and control characters, and not only dots")]
    InvalidName(String),
    #[error("'{0}' already exists in this folder")]
    NameTaken(String),
    #[error("a folder cannot be moved into itself or what lies in it")]
    IntoItself,
    #[error("folders may lie {DEPTH} deep in one another")]
    TooDeep,
    #[error("bucket '{bucket}' does not take files of the type {content_type}: {}", .allowed.join(", "))]
    TypeNotAllowed { bucket: String, content_type: String, allowed: Vec<String> },
    #[error(transparent)]
    File(#[from] service::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A bucket that somebody wants.
#[derive(Debug)]
pub struct NewBucket {
    pub name: String,
    pub public: bool,
    pub max_file_size: Option<i64>,
    pub allowed_types: Option<Vec<String>>,
}

/// What is to change of where an object stands. Absent: it stays.
#[derive(Debug)]
#[expect(clippy::option_option, reason = "no change and the bucket itself are two things here")]
pub struct Move {
    pub name: Option<String>,
    /// `Some(None)`: to the bucket itself.
    pub parent: Option<Option<ObjectId>>,
}

impl Files {
    pub async fn create_bucket(&self, caller: &Principal, new: NewBucket) -> Result<(), Error> {
        let faults = faults(&new);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let NewBucket { name, public, max_file_size, allowed_types } = new;
        let bucket = Bucket { name, public, max_file_size, allowed_types, created_at: self.clock.now() };
        let mut transaction = self.pool.begin().await?;
        if !store::insert_bucket(&mut transaction, &caller.tenant, &bucket).await? {
            return Err(Error::BucketExists(bucket.name));
        }
        let event = audit::Event::by(caller, audit::Action::BucketCreated).on("bucket", &bucket.name);
        audit::record(&mut transaction, &event.with("public", bucket.public), self.clock.now()).await?;
        Ok(transaction.commit().await?)
    }

    pub async fn buckets(&self, tenant: &TenantId, after: &str, most: i64) -> Result<Vec<Bucket>, Error> {
        Ok(store::list_buckets(&mut *self.pool.acquire().await?, tenant, after, most).await?)
    }

    pub async fn bucket(&self, tenant: &TenantId, name: &str) -> Result<Option<Bucket>, Error> {
        Ok(store::find_bucket(&mut *self.pool.acquire().await?, tenant, name).await?)
    }

    /// Removes a bucket that has nothing in it.
    pub async fn delete_bucket(&self, caller: &Principal, name: &str) -> Result<(), Error> {
        if name == DEFAULT {
            return Err(Error::IsDefault);
        }
        let mut transaction = self.pool.begin().await?;
        if !store::lock_bucket(&mut transaction, &caller.tenant, name).await? {
            return Err(Error::UnknownBucket(name.to_owned()));
        }
        if store::has_objects(&mut transaction, &caller.tenant, name).await? {
            return Err(Error::NotEmpty(name.to_owned()));
        }
        store::delete_bucket(&mut transaction, &caller.tenant, name).await?;
        let event = audit::Event::by(caller, audit::Action::BucketDeleted).on("bucket", name);
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        Ok(transaction.commit().await?)
    }

    pub async fn objects(&self, place: Place<'_>, after: Option<ObjectId>, most: i64) -> Result<Vec<Object>, Error> {
        let mut connection = self.pool.acquire().await?;
        let objects = store::list_objects(&mut connection, place, after, most).await?;
        if objects.is_empty() {
            let bucket = store::find_bucket(&mut connection, place.tenant, place.bucket).await?;
            bucket.ok_or_else(|| Error::UnknownBucket(place.bucket.to_owned()))?;
            folders_to(&mut connection, place).await?;
        }
        Ok(objects)
    }

    pub async fn create_folder(&self, caller: &Principal, place: Place<'_>, name: &str) -> Result<ObjectId, Error> {
        if !names::is_object(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let (now, mut transaction) = (self.clock.now(), self.pool.begin().await?);
        if folders_to(&mut transaction, place).await? >= DEPTH {
            return Err(Error::TooDeep);
        }
        let id = ObjectId::generate(now);
        let inserted = store::insert_object(&mut transaction, place, (id, name, None), caller.id, now).await;
        inserted.map_err(|error| misplaced(error, place, name))?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Takes in a file for a bucket. It has a place, or is discarded, after this.
    pub async fn take_in_for(
        &self,
        tenant: &TenantId,
        bucket: &str,
        mut new: NewFile,
        content: Incoming<'_>,
    ) -> Result<Arrived, Error> {
        let bucket = self.bucket(tenant, bucket).await?.ok_or_else(|| Error::UnknownBucket(bucket.to_owned()))?;
        new.most = bucket.max_file_size.and_then(|size| u64::try_from(size).ok());
        let arrived = self.take_in((tenant, None), new, content).await?;
        let refusal = bucket.allowed_types.filter(|allowed| !names::takes(allowed, &arrived.completed.content_type));
        match refusal {
            None => Ok(arrived),
            Some(allowed) => {
                let content_type = arrived.completed.content_type.clone();
                self.discard(tenant, &arrived).await;
                Err(Error::TypeNotAllowed { bucket: bucket.name, content_type, allowed })
            }
        }
    }

    /// Gives what came in a place, and so makes it a file.
    pub async fn put(&self, caller: &Principal, place: Place<'_>, arrived: &Arrived) -> Result<(ObjectId, File), Error> {
        let kept = self.keep(caller, place, arrived).await;
        if kept.is_err() {
            self.discard(place.tenant, arrived).await;
        }
        kept
    }

    async fn keep(&self, caller: &Principal, place: Place<'_>, arrived: &Arrived) -> Result<(ObjectId, File), Error> {
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        folders_to(&mut transaction, place).await?;
        let file = self.complete(&mut transaction, place.tenant, arrived).await?;
        let id = ObjectId::generate(now);
        let inserted =
            store::insert_object(&mut transaction, place, (id, &file.name, Some(FileId::from(file.id))), caller.id, now).await;
        inserted.map_err(|error| misplaced(error, place, &file.name))?;
        transaction.commit().await?;
        Ok((id, file))
    }

    pub async fn object(&self, whose: (&TenantId, &str), id: ObjectId) -> Result<Object, Error> {
        let found = store::find_object(&mut *self.pool.acquire().await?, whose, id).await?;
        found.ok_or(Error::UnknownObject(id))
    }

    /// The file that an object stands for, called as the object is.
    pub async fn file_of(&self, (tenant, bucket): (&TenantId, &str), id: ObjectId) -> Result<File, Error> {
        let object = self.object((tenant, bucket), id).await?;
        let file = object.file_id.ok_or(Error::IsFolder(id))?;
        let file = self.find_own(tenant, file.into()).await?.ok_or(Error::UnknownObject(id))?;
        Ok(File { name: object.name, ..file })
    }

    /// Renames an object, or moves it to another folder of its bucket.
    pub async fn relocate(&self, whose: (&TenantId, &str), id: ObjectId, wanted: Move) -> Result<(), Error> {
        let (tenant, bucket) = whose;
        if let Some(name) = wanted.name.as_ref().filter(|name| !names::is_object(name)) {
            return Err(Error::InvalidName(name.clone()));
        }
        let mut transaction = self.pool.begin().await?;
        if !store::lock_places(&mut transaction, tenant, bucket).await? {
            return Err(Error::UnknownObject(id));
        }
        let object = store::find_object(&mut transaction, whose, id).await?.ok_or(Error::UnknownObject(id))?;
        let parent = wanted.parent.unwrap_or_else(|| object.parent_id.map(ObjectId::from));
        let place = Place { tenant, bucket, parent };
        if wanted.parent.is_some() {
            fits(&mut transaction, place, id).await?;
        }
        let name = wanted.name.unwrap_or(object.name);
        let updated = store::update_place(&mut transaction, place, (id, &name)).await;
        if !updated.map_err(|error| misplaced(error, place, &name))? {
            return Err(Error::UnknownObject(id));
        }
        Ok(transaction.commit().await?)
    }

    /// Removes an object with all that lies in it.
    pub async fn delete_object(&self, caller: &Principal, bucket: &str, id: ObjectId) -> Result<(), Error> {
        let whose = (&caller.tenant, bucket);
        let mut transaction = self.pool.begin().await?;
        // Nothing is moved out of it or into it meanwhile.
        store::lock_places(&mut transaction, &caller.tenant, bucket).await?;
        let object = store::find_object(&mut transaction, whose, id).await?.ok_or(Error::UnknownObject(id))?;
        store::delete_object(&mut transaction, whose, id).await?;
        let event = audit::Event::by(caller, audit::Action::ObjectDeleted).on("object", id).with("bucket", bucket);
        let event = event.with("name", object.name).with("is_folder", object.file_id.is_none());
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        transaction.commit().await?;
        self.wake();
        Ok(())
    }

    pub async fn ancestors(&self, whose: (&TenantId, &str), id: ObjectId) -> Result<Vec<Ancestor>, Error> {
        let way = store::list_ancestors(&mut *self.pool.acquire().await?, whose, id).await?;
        if way.is_empty() { Err(Error::UnknownObject(id)) } else { Ok(way) }
    }
}

/// How many folders there are to a place, which has to be a folder.
async fn folders_to(connection: &mut PgConnection, place: Place<'_>) -> Result<usize, Error> {
    let Some(parent) = place.parent else { return Ok(0) };
    let whose = (place.tenant, place.bucket);
    let folder = store::find_object(connection, whose, parent).await?;
    if folder.is_none_or(|folder| folder.file_id.is_some()) {
        return Err(Error::UnknownFolder(parent));
    }
    Ok(store::list_ancestors(connection, whose, parent).await?.len())
}

/// Whether an object may be moved to a place.
async fn fits(connection: &mut PgConnection, place: Place<'_>, id: ObjectId) -> Result<(), Error> {
    let above = folders_to(connection, place).await?;
    if let Some(parent) = place.parent {
        let way = store::list_ancestors(connection, (place.tenant, place.bucket), parent).await?;
        if way.iter().any(|folder| folder.id == id.as_uuid()) {
            return Err(Error::IntoItself);
        }
    }
    let height = usize::try_from(store::find_height(connection, id).await?).unwrap_or(DEPTH);
    if above + height > DEPTH { Err(Error::TooDeep) } else { Ok(()) }
}

/// Why an object cannot be where it was to be.
fn misplaced(error: sqlx::Error, place: Place<'_>, name: &str) -> Error {
    let sqlx::Error::Database(said) = &error else { return error.into() };
    if said.is_unique_violation() {
        return Error::NameTaken(name.to_owned());
    }
    match (said.is_foreign_key_violation(), place.parent) {
        (true, Some(parent)) if said.constraint() == Some("storage_objects_parent_id_fkey") => Error::UnknownFolder(parent),
        (true, _) => Error::UnknownBucket(place.bucket.to_owned()),
        _ => error.into(),
    }
}

fn faults(new: &NewBucket) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut rule = |holds: bool, path: &str, rule: &str| {
        if !holds {
            faults.push(Fault::new(path, rule));
        }
    };
    rule(names::is_bucket(&new.name), "$.name", "must be 1 to 63 letters, digits, '_' and '-'");
    rule(new.max_file_size.is_none_or(|size| size > 0), "$.max_file_size", "must be a number of bytes, 1 at least");
    let types = new.allowed_types.as_deref().unwrap_or_default();
    rule(types.len() <= MOST_TYPES, "$.allowed_types", "must be 100 types at most");
    for (index, content_type) in types.iter().enumerate() {
        let path = format!("$.allowed_types[{index}]");
        rule(names::is_pattern(content_type), &path, "must be a media type, as `text/csv` or `image/*`");
    }
    faults
}
