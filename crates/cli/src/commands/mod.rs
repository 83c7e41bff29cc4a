//! One module per verb; here only the list of them and what they share: the global options and how a client is made.

mod accounts;
mod add;
mod apps;
mod audit;
mod call;
mod catalog;
mod completions;
mod config;
mod connect;
mod connections;
mod crons;
mod data;
pub mod deploy;
mod dev;
mod doctor;
mod files;
mod frontend;
mod hooks;
mod import;
mod index;
mod init;
mod jobs;
mod login;
mod logs;
mod namespaces;
mod plan;
mod requirements;
mod roles;
mod rpc;
mod runs;
mod secrets;
mod source;
mod status;
mod syncs;
mod tenants;
mod test;
pub mod types;
mod users;
mod vault;
mod versions;
mod ways;
mod why;
mod worker;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::client::{Client, DEFAULT_URL, Session, server_url};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::serve;

/// Options that every command takes.
#[derive(Args)]
pub struct Globals {
    /// Print machine-readable JSON on stdout and nothing else; errors are a JSON object on stderr
    #[arg(long, global = true)]
    pub json: bool,

    /// Server to talk to, instead of the one logged in to
    #[arg(id = "server_url", long = "url", global = true, env = "WEFT_URL", value_name = "URL")]
    pub url: Option<String>,

    /// Access token, instead of the stored login; prefer the variable, which stays out of the shell history
    #[arg(id = "access_token", long = "token", global = true, env = "WEFT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,

    /// File that keeps the login
    #[arg(id = "login_file", long = "login-file", global = true, env = "WEFT_CONFIG", value_name = "FILE", hide = true)]
    pub login_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<serve::ServeArgs>),
    /// Make a new project folder
    Init(init::Arguments),
    /// Make a project of something that exists
    Add(add::Arguments),
    /// Log in to a server; the first login on a new one creates its administrator
    Login(login::LoginArguments),
    /// Forget the stored login
    Logout,
    /// Show who is logged in
    Whoami,
    /// Show whether the server is well and who is logged in
    Status,
    /// Install and start the project in a folder
    Deploy(deploy::Arguments),
    /// Deploy the project in a folder again whenever a file changes, and show what it does
    Dev(dev::Arguments),
    /// Run the project's own tests, offline against recorded HTTP
    Test(test::Arguments),
    /// Write the manifest's types to backend/manifest.d.ts
    Types(types::Arguments),
    /// Set an integration's configuration
    Config(config::Arguments),
    /// Connect your account at a vendor to an integration
    Connect(connect::Arguments),
    /// List, rename, delete and check connections
    Connections(connections::Arguments),
    /// Check every integration and your connections to it; say what is wrong and what to do
    Doctor(doctor::Arguments),
    /// Call an action of an integration
    Call(call::Arguments),
    /// List, deploy and remove the integrations that come with the server, and grade new ones
    Catalog(catalog::Arguments),
    /// Make an integration of a document that describes an API
    Import(import::Arguments),
    /// Call a method of an app
    Rpc(rpc::Arguments),
    /// Follow the live log of an app or integration
    Logs(logs::Arguments),
    /// List runs, or show one
    Runs(runs::Arguments),
    /// Enqueue jobs of an app, and see what became of them
    Jobs(jobs::Arguments),
    /// List, make and fire what apps do by the clock
    Crons(crons::Arguments),
    /// List and steer what integrations keep or watch at their vendors
    Syncs(syncs::Arguments),
    /// List, make and change what apps do when their records change
    Hooks(hooks::Arguments),
    /// List, upload, download and delete the files of an app
    Files(files::Arguments),
    /// List, create, import and export the records of an app
    Data(data::Arguments),
    /// List or remove apps and integrations
    Apps(apps::Arguments),
    /// List the versions of an app that were deployed
    Versions(versions::ListArguments),
    /// Go back to an earlier version of an app, code and manifest
    Rollback(versions::RollbackArguments),
    /// Start, stop or inspect the worker of an app
    Worker(worker::Arguments),
    /// Manage secrets of the platform or of an app
    Secrets(secrets::Arguments),
    /// Maintain the server's encryption keys
    Vault(vault::Arguments),
    /// Manage the tenants of the server
    Tenants(tenants::Arguments),
    /// Manage the members of the tenant
    Users(users::Arguments),
    /// Manage roles, and who has them
    Roles(roles::Arguments),
    /// Manage accounts of machines and their keys
    ServiceAccounts(accounts::Arguments),
    /// Manage namespaces, their departments, and who belongs to those
    Namespaces(namespaces::Arguments),
    /// Explain why somebody may or may not do something
    Why(why::Arguments),
    /// List what was done by way of administration, export it, and check an export
    Audit(audit::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::Serve(arguments) => serve::serve(&context.output, *arguments).await,
            Self::Init(arguments) => init::run(context, &arguments),
            Self::Add(arguments) => add::run(context, arguments).await,
            Self::Login(arguments) => login::login(context, &arguments).await,
            Self::Logout => login::logout(context).await,
            Self::Whoami => login::whoami(context).await,
            Self::Status => status::run(context).await,
            Self::Deploy(arguments) => deploy::run(context, &arguments).await,
            Self::Dev(arguments) => dev::run(context, &arguments).await,
            Self::Test(arguments) => test::run(context, &arguments).await,
            Self::Types(arguments) => types::run(context, &arguments),
            Self::Config(arguments) => config::run(context, &arguments).await,
            Self::Connect(arguments) => connect::run(context, &arguments).await,
            Self::Connections(arguments) => connections::run(context, &arguments).await,
            Self::Doctor(arguments) => doctor::run(context, &arguments).await,
            Self::Call(arguments) => call::run(context, &arguments).await,
            Self::Catalog(arguments) => catalog::run(context, arguments).await,
            Self::Import(arguments) => import::run(context, arguments).await,
            Self::Rpc(arguments) => rpc::run(context, &arguments).await,
            Self::Logs(arguments) => logs::run(context, &arguments).await,
            Self::Runs(arguments) => runs::run(context, &arguments).await,
            Self::Jobs(arguments) => jobs::run(context, &arguments).await,
            Self::Crons(arguments) => crons::run(context, &arguments).await,
            Self::Syncs(arguments) => syncs::run(context, &arguments).await,
            Self::Hooks(arguments) => hooks::run(context, &arguments).await,
            Self::Files(arguments) => files::run(context, &arguments).await,
            Self::Data(arguments) => data::run(context, arguments).await,
            Self::Apps(arguments) => apps::run(context, arguments).await,
            Self::Versions(arguments) => versions::list(context, &arguments).await,
            Self::Rollback(arguments) => versions::rollback(context, &arguments).await,
            Self::Worker(arguments) => worker::run(context, &arguments).await,
            Self::Secrets(arguments) => secrets::run(context, &arguments).await,
            Self::Vault(arguments) => vault::run(context, &arguments).await,
            Self::Tenants(arguments) => tenants::run(context, &arguments).await,
            Self::Users(arguments) => users::run(context, &arguments).await,
            Self::Roles(arguments) => roles::run(context, &arguments).await,
            Self::ServiceAccounts(arguments) => accounts::run(context, &arguments).await,
            Self::Namespaces(arguments) => namespaces::run(context, &arguments).await,
            Self::Why(arguments) => why::run(context, &arguments).await,
            Self::Audit(arguments) => audit::run(context, &arguments).await,
            Self::Completions(arguments) => completions::run(&arguments),
        }
    }
}

/// What every command is given.
pub struct Context {
    pub output: Output,
    globals: Globals,
}

impl Context {
    pub fn new(globals: Globals, output: Output) -> Self {
        Self { output, globals }
    }

    /// Where the login is kept.
    pub fn store(&self) -> Result<Store> {
        Store::locate(self.globals.login_file.as_deref())
    }

    /// The server's address: flag or variable, else the stored login's, else this machine's.
    pub fn server(&self) -> Result<String> {
        if let Some(url) = given(self.globals.url.as_deref()) {
            return Ok(url.to_owned());
        }
        Ok(self.store()?.load()?.map_or_else(|| DEFAULT_URL.to_owned(), |login| login.url))
    }

    /// A client with whatever login there is.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.server()?, self.session()?)
    }

    /// A client with a login, or the advice to log in.
    pub fn authorized(&self) -> Result<Client> {
        match self.session()? {
            Session::Anonymous => Err(CliError::NotLoggedIn { url: self.server()? }),
            session => Client::new(&self.server()?, session),
        }
    }

    /// Whether there is a token to use, valid or not.
    pub fn is_logged_in(&self) -> Result<bool> {
        Ok(!matches!(self.session()?, Session::Anonymous))
    }

    fn session(&self) -> Result<Session> {
        if let Some(token) = given(self.globals.token.as_deref()) {
            return Ok(Session::Token(token.to_owned()));
        }
        let store = self.store()?;
        let Some(login) = store.load()? else { return Ok(Session::Anonymous) };
        // A token must not be shown to a server that did not issue it.
        if server_url(&login.url)? != server_url(&self.server()?)? {
            return Ok(Session::Anonymous);
        }
        Ok(Session::Stored(login, store))
    }
}

/// A flag's or variable's value; an empty variable counts as unset.
fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}
