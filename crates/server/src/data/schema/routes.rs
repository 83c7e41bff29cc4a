//! `/api/v1/apps/schema/verify`: what installing a manifest would change, and what it would lose.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::Plan;
use weft_model::{Fault, fault};

use crate::{
    data::Error,
    http::{
        Problems,
        extract::{Caller, Json},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(verify))
}

/// What a manifest's data contract would change.
#[derive(Serialize, ToSchema)]
struct Planned {
    /// Whether there is nothing to change.
    compliant: bool,
    changes: Vec<PlannedChange>,
    /// What stands against it whatever one consents to.
    obstacles: Vec<Fault>,
}

/// One change.
#[derive(Serialize, ToSchema)]
struct PlannedChange {
    entity: String,
    /// For example `create_table`, `add_column`, `drop_column`, `alter_type`, `rename_column`, `add_index`.
    change_type: &'static str,
    /// The column, index or check; empty for a table.
    column: String,
    detail: Option<String>,
    /// What is lost by it: installing then needs consent.
    loss: Option<String>,
}

impl From<Plan> for Planned {
    fn from(plan: Plan) -> Self {
        let changes: Vec<_> = plan
            .shown()
            .map(|step| PlannedChange {
                entity: step.entity.clone(),
                change_type: step.change.as_str(),
                column: step.column.clone(),
                detail: step.detail.clone(),
                loss: step.loss.clone(),
            })
            .collect();
        let obstacle = |it: weft_data::plan::Obstacle| Fault::new(format!("{}.{}", it.entity, it.column), it.message);
        let compliant = changes.is_empty() && plan.obstacles.is_empty();
        Self { compliant, changes, obstacles: plan.obstacles.into_iter().map(obstacle).collect() }
    }
}

/// What installing a manifest would change in the app's tables
///
/// Nothing is changed. A change with a `loss` needs `acceptLoss=true` when the manifest is installed or deployed.
#[utoipa::path(post, path = "/api/v1/apps/schema/verify", tag = "data", request_body(content = Object, description = "The manifest"),
    responses((status = 200, body = Planned), Problems))]
async fn verify(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Json(manifest): Json<Value>,
) -> Result<Body<Planned>, Problem> {
    Ok(Body(node.apps.verify(&caller, manifest).await?.into()))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::UnknownEntity { .. } | Error::UnknownRecord(_) => Self::new(Code::NotFound, message),
            Error::InvalidId(_) => Self::new(Code::InvalidRequest, message),
            Error::Invalid(faults) => Self::new(Code::ValidationFailed, listed(&message, &faults)).with_faults(faults),
            Error::Conflict(_) | Error::Foreign(_) => Self::new(Code::Conflict, message),
            Error::Changed(_) => Self::new(Code::PreconditionFailed, message),
            Error::Denied(key) => crate::http::extract::denied(&key),
            Error::TooSlow => Self::new(Code::Timeout, message),
            Error::Moved | Error::Busy => {
                Self::new(Code::Unavailable, message).with_retry_after(Some(std::time::Duration::from_secs(1)))
            }
            Error::Impossible(faults) => Self::new(Code::Conflict, listed(&message, &faults)).with_faults(faults),
            Error::Loss(plan) => {
                let place = |entity: &str, column: &str| {
                    if column.is_empty() { entity.to_owned() } else { format!("{entity}.{column}") }
                };
                let faults: Vec<_> =
                    plan.losses().map(|(step, loss)| Fault::new(place(&step.entity, &step.column), loss)).collect();
                let message =
                    format!("{}. Nothing was changed. Send acceptLoss=true to let it happen.", listed(&message, &faults));
                Self::new(Code::DataLoss, message).with_faults(faults)
            }
            Error::App(cause) => (*cause).into(),
            Error::Database(cause) => cause.into(),
        }
    }
}

fn listed(message: &str, faults: &[Fault]) -> String {
    format!("{message}: {}", fault::listed(faults))
}
