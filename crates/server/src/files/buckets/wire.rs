//! What requests and answers about buckets look like.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;
use weft_model::ObjectId;

use super::{
    names::BucketName,
    store::{Ancestor, Bucket as StoredBucket, Object as StoredObject},
};

/// A bucket.
#[derive(Serialize, ToSchema)]
pub struct Bucket {
    pub name: String,
    /// Whether everybody who is logged in may read its files.
    pub public: bool,
    /// In bytes; null: as large as any file.
    pub max_file_size: Option<i64>,
    /// Null: any.
    pub allowed_types: Option<Vec<String>>,
    pub created_at: DateTime<Utc>,
}

impl From<StoredBucket> for Bucket {
    fn from(bucket: StoredBucket) -> Self {
        let StoredBucket { name, public, max_file_size, allowed_types, created_at } = bucket;
        Self { name, public, max_file_size, allowed_types, created_at }
    }
}

#[derive(Deserialize, ToSchema)]
pub struct CreateBucketRequest {
    /// 1 to 63 letters, digits, `_` and `-`.
    pub name: String,
    /// Whether everybody who is logged in may read its files.
    #[serde(default)]
    pub public: bool,
    /// In bytes.
    #[serde(default)]
    pub max_file_size: Option<i64>,
    /// Media types, or all of a kind: `image/*`.
    #[serde(default)]
    pub allowed_types: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct BucketCreated {
    pub name: String,
}

#[derive(Serialize, ToSchema)]
pub struct BucketDeleted {
    pub deleted: String,
}

/// A folder, or a file in a bucket.
#[derive(Serialize, ToSchema)]
pub struct StorageObject {
    pub id: Uuid,
    pub bucket: String,
    /// The folder that it is in; null: the bucket itself.
    pub parent_id: Option<Uuid>,
    pub name: String,
    pub is_folder: bool,
    /// What it is, as far as its first bytes show, else what was said; null for a folder.
    pub content_type: Option<String>,
    /// In bytes; null for a folder.
    pub size: Option<i64>,
    /// `digest`: SHA-256 of what a file holds, in hexadecimal.
    #[schema(value_type = Object)]
    pub metadata: Value,
    pub uploaded_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
}

impl From<StoredObject> for StorageObject {
    fn from(object: StoredObject) -> Self {
        let metadata = object.digest.map_or_else(|| json!({}), |digest| json!({ "digest": hex::encode(digest) }));
        Self {
            id: object.id,
            bucket: object.bucket,
            parent_id: object.parent_id,
            name: object.name,
            is_folder: object.file_id.is_none(),
            content_type: object.content_type,
            size: object.size,
            metadata,
            uploaded_by: object.created_by,
            created_at: object.created_at,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BucketFilter {
    /// How many, 1 to 1000; 1000 when absent.
    pub limit: Option<i64>,
    /// Only those after this name: the last one of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<BucketName>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ObjectFilter {
    /// The folder whose objects are listed; absent: the bucket itself.
    pub parent_id: Option<String>,
    /// How many, 1 to 1000; 1000 when absent.
    pub limit: Option<i64>,
    /// Only those after this one: the last one of the page before.
    pub after: Option<ObjectId>,
}

#[derive(Deserialize, ToSchema)]
pub struct CreateFolderRequest {
    pub name: String,
    /// The folder that it is to be in; absent, empty or `null`: the bucket itself.
    #[serde(default)]
    pub parent_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct FolderCreated {
    pub id: ObjectId,
    pub name: String,
    pub is_folder: bool,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body in the API reference")]
pub struct ObjectForm {
    /// The file, with its name. The field may have any name.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    pub file: String,
    /// The folder that it is to be in.
    pub parent_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ObjectUploaded {
    pub id: ObjectId,
    pub name: String,
    pub content_type: String,
    pub size: i64,
}

#[derive(Deserialize, ToSchema)]
pub struct MoveRequest {
    #[serde(default)]
    pub name: Option<String>,
    /// Another folder of the bucket; empty or `null` as a text: the bucket itself.
    #[serde(default)]
    pub parent_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ObjectMoved {
    pub id: ObjectId,
    pub updated: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ObjectDeleted {
    pub deleted: ObjectId,
}

/// A folder on the way to an object.
#[derive(Serialize, ToSchema)]
pub struct WayPoint {
    pub id: Uuid,
    pub name: String,
}

impl From<Ancestor> for WayPoint {
    fn from(Ancestor { id, name }: Ancestor) -> Self {
        Self { id, name }
    }
}
