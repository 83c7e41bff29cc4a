//! `weft namespaces`: namespaces, their departments, and who belongs to those.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, users};
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A department is named by its id or its path of names, for example `Europe/North`.
#[derive(Subcommand)]
enum Command {
    /// List the namespaces that you see (the default)
    #[command(alias = "ls")]
    List,
    /// Make a namespace
    Create {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        /// Name for people; the id when absent
        #[arg(long)]
        name: Option<String>,
    },
    /// Rename a namespace; its id stays
    Rename {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        name: String,
    },
    /// Delete a namespace without departments
    Rm {
        #[arg(value_parser = input::identifier)]
        namespace: String,
    },
    /// List the departments of a namespace that are in your scope
    Departments {
        #[arg(value_parser = input::identifier)]
        namespace: String,
    },
    /// Add a department
    AddDepartment {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        name: String,
        /// The department to put it below; at the top when absent
        #[arg(long, value_name = "DEPARTMENT")]
        below: Option<String>,
    },
    /// Rename a department
    RenameDepartment {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
        name: String,
    },
    /// Move a department with all below it
    MoveDepartment {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
        /// The department to put it below; at the top when absent
        #[arg(long, value_name = "DEPARTMENT")]
        below: Option<String>,
    },
    /// Delete a department that has none below it
    RmDepartment {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
    },
    /// List who belongs to a department
    Members {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
    },
    /// Let somebody belong to a department
    AddMember {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
        /// Id or e-mail address
        user: String,
    },
    /// Let somebody belong to a department no longer
    RmMember {
        #[arg(value_parser = input::identifier)]
        namespace: String,
        department: String,
        /// Id or e-mail address
        user: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Namespace {
    id: String,
    name: String,
    created_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Department {
    id: String,
    name: String,
    parent_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    user_id: String,
    email: String,
    added_at: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let done = |answer: &Value, text: String| context.output.show(answer, || printable(&text));
    match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => list(context, &client).await,
        Command::Create { namespace, name } => {
            let body = json!({ "id": namespace, "name": name });
            let answer = client.send(Method::POST, client.api(&["namespaces"]), &body).await?;
            done(&answer, format!("Made {namespace}"))
        }
        Command::Rename { namespace, name } => {
            let answer = client.send(Method::PATCH, client.api(&["namespaces", namespace]), &json!({ "name": name })).await?;
            done(&answer, format!("Renamed {namespace}"))
        }
        Command::Rm { namespace } => {
            let answer = client.delete(client.api(&["namespaces", namespace])).await?;
            done(&answer, format!("Deleted {namespace}"))
        }
        command => departments(context, &client, command).await,
    }
}

async fn departments(context: &Context, client: &Client, command: &Command) -> Result<()> {
    let done = |answer: &Value, text: String| context.output.show(answer, || printable(&text));
    match command {
        Command::Departments { namespace } => list_departments(context, client, namespace).await,
        Command::AddDepartment { namespace, name, below } => {
            let parent = find_parent(client, namespace, below.as_deref()).await?;
            let url = client.api(&["namespaces", namespace, "departments"]);
            let answer = client.send(Method::POST, url, &json!({ "name": name, "parentId": parent })).await?;
            done(&answer, format!("Added {name}"))
        }
        Command::RenameDepartment { namespace, department, name } => {
            let url = at(client, namespace, department, &[]).await?;
            done(&client.send(Method::PATCH, url, &json!({ "name": name })).await?, format!("Renamed {department}"))
        }
        Command::MoveDepartment { namespace, department, below } => {
            let parent = find_parent(client, namespace, below.as_deref()).await?;
            let url = at(client, namespace, department, &[]).await?;
            done(&client.send(Method::PATCH, url, &json!({ "parentId": parent })).await?, format!("Moved {department}"))
        }
        Command::RmDepartment { namespace, department } => {
            let answer = client.delete(at(client, namespace, department, &[]).await?).await?;
            done(&answer, format!("Deleted {department}"))
        }
        Command::Members { namespace, department } => list_members(context, client, (namespace, department)).await,
        Command::AddMember { namespace, department, user } => {
            let id = users::find(client, user).await?;
            let url = at(client, namespace, department, &["members", &id]).await?;
            done(&client.send(Method::PUT, url, &json!({})).await?, format!("{user} belongs to {department} now"))
        }
        Command::RmMember { namespace, department, user } => {
            let id = users::find(client, user).await?;
            let answer = client.delete(at(client, namespace, department, &["members", &id]).await?).await?;
            done(&answer, format!("{user} belongs to {department} no longer"))
        }
        Command::List | Command::Create { .. } | Command::Rename { .. } | Command::Rm { .. } => Ok(()),
    }
}

async fn fetch(client: &Client, namespace: &str) -> Result<(Value, Vec<Department>)> {
    let answer = client.get(client.api(&["namespaces", namespace, "departments"])).await?;
    let departments = decode(&answer)?;
    Ok((answer, departments))
}

/// The names from the top down to a department.
fn path(departments: &[Department], department: &Department) -> String {
    let above = |department: &Department| {
        let parent = department.parent_id.as_ref()?;
        departments.iter().find(|known| known.id == *parent)
    };
    let mut names = vec![department.name.as_str()];
    let mut place = above(department);
    while let Some(parent) = place.filter(|_| names.len() <= departments.len()) {
        names.push(&parent.name);
        place = above(parent);
    }
    names.reverse();
    names.join("/")
}

async fn find(client: &Client, namespace: &str, named: &str) -> Result<String> {
    let (_, departments) = fetch(client, namespace).await?;
    let found = departments.iter().find(|known| known.id == named || path(&departments, known) == named);
    found.map(|department| department.id.clone()).ok_or_else(|| {
        CliError::failed(format!("{namespace} has no department {named}"))
            .with_hint(format!("`weft namespaces departments {namespace}` lists them by their path"))
    })
}

async fn find_parent(client: &Client, namespace: &str, below: Option<&str>) -> Result<Option<String>> {
    match below {
        Some(below) => find(client, namespace, below).await.map(Some),
        None => Ok(None),
    }
}

/// The address of something of a department.
async fn at(client: &Client, namespace: &str, department: &str, rest: &[&str]) -> Result<reqwest::Url> {
    let id = find(client, namespace, department).await?;
    Ok(client.api(&[&["namespaces", namespace, "departments", id.as_str()], rest].concat()))
}

async fn list(context: &Context, client: &Client) -> Result<()> {
    let answer = client.get(client.api(&["namespaces"])).await?;
    let namespaces: Vec<Namespace> = decode(&answer)?;
    if namespaces.is_empty() && !context.output.is_json() {
        context.output.note("No namespaces that you see");
        return Ok(());
    }
    context.output.show(&answer, || {
        let row = |namespace: Namespace| [namespace.id, moment(namespace.created_at.as_deref()), namespace.name];
        table(["ID", "CREATED (UTC)", "NAME"], &namespaces.into_iter().map(row).collect::<Vec<_>>())
    })
}

async fn list_departments(context: &Context, client: &Client, namespace: &str) -> Result<()> {
    let (answer, departments) = fetch(client, namespace).await?;
    if departments.is_empty() && !context.output.is_json() {
        context.output.note("No departments");
        return Ok(());
    }
    context.output.show(&answer, || {
        let mut rows: Vec<_> = departments.iter().map(|one| [path(&departments, one), one.id.clone()]).collect();
        rows.sort();
        table(["DEPARTMENT", "ID"], &rows)
    })
}

async fn list_members(context: &Context, client: &Client, (namespace, department): (&str, &str)) -> Result<()> {
    let answer = client.get(at(client, namespace, department, &["members"]).await?).await?;
    let members: Vec<Member> = decode(&answer)?;
    if members.is_empty() && !context.output.is_json() {
        context.output.note("No members");
        return Ok(());
    }
    context.output.show(&answer, || {
        let row = |member: Member| [member.email, member.user_id, moment(member.added_at.as_deref())];
        table(["EMAIL", "ID", "SINCE (UTC)"], &members.into_iter().map(row).collect::<Vec<_>>())
    })
}
