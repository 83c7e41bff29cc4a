//! A server inside the test's process, with a database, a data directory and a clock of its own.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use chrono::Duration;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_server::{Clock, ServeArgs, Server, Settings};

use crate::{Api, database::TestDatabase, database::runtime_dir};

/// The password of every user that tests make.
pub const PASSWORD: &str = "Str0ngPass!x";

/// A running server that one test has to itself.
pub struct TestServer {
    server: Option<Server>,
    pub clock: Clock,
    pub database: TestDatabase,
    pub data_dir: TempDir,
    arguments: ServeArgs,
}

impl TestServer {
    /// A server with nobody registered yet.
    pub async fn start() -> Self {
        Self::start_with(ServeArgs::default()).await
    }

    /// The same, with settings of the test's own.
    pub async fn start_with(arguments: ServeArgs) -> Self {
        let mut test = Self::prepare(arguments).await;
        test.boot().await;
        test
    }

    /// The same on a database that the test made, reached by the URL of `arguments` when there is one.
    pub async fn start_on(database: TestDatabase, arguments: ServeArgs) -> Self {
        let mut test = Self::prepare_on(database, arguments);
        test.boot().await;
        test
    }

    /// The same, with a settings file.
    pub async fn start_with_file(settings: &str) -> Self {
        Self::start_with_file_and(settings, ServeArgs::default()).await
    }

    /// The same, and with what comes in the environment.
    pub async fn start_with_file_and(settings: &str, arguments: ServeArgs) -> Self {
        let mut test = Self::prepare(arguments).await;
        let file = test.data_path("weft.toml");
        std::fs::write(&file, settings).expect("the data directory is writable");
        test.arguments.config = Some(file);
        test.boot().await;
        test
    }

    /// Everything that a server needs, but no server yet.
    pub async fn prepare(arguments: ServeArgs) -> Self {
        Self::prepare_on(TestDatabase::create().await, arguments)
    }

    fn prepare_on(database: TestDatabase, arguments: ServeArgs) -> Self {
        let data_dir = tempfile::Builder::new().prefix("weft-data-").tempdir().expect("a temporary folder");
        // Accounts that the server gives its children have to pass through.
        std::fs::set_permissions(data_dir.path(), std::fs::Permissions::from_mode(0o711)).expect("permissions can be set");
        let clock = Clock::default();
        Self { server: None, clock, database, data_dir, arguments }
    }

    async fn boot(&mut self) {
        let settings = self.settings();
        for _ in 0..100 {
            match Server::start(settings.clone(), self.clock.clone()).await {
                Ok(server) => {
                    self.server = Some(server);
                    return;
                }
                // A child that another test forks at this moment holds the stopped server's lock until it becomes its program.
                Err(error) if error.to_string().contains("uses the data directory") => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(error) => panic!("the server starts: {error:?}"),
            }
        }
        panic!("the data directory does not become free");
    }

    fn settings(&self) -> Settings {
        let arguments = ServeArgs {
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(self.data_dir.path().to_owned()),
            database_url: Some(self.arguments.database_url.clone().unwrap_or_else(|| self.database.url.clone())),
            runtime_dir: Some(runtime_dir()),
            package_registry: self
                .arguments
                .package_registry
                .clone()
                .or_else(|| package_registry().filter(|_| self.arguments.config.is_none())),
            ..self.arguments.clone()
        };
        Settings::load(arguments).expect("valid settings")
    }

    /// Stops the server in order and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.boot().await;
    }

    /// The same, with other settings.
    #[must_use]
    pub async fn restart_with(mut self, arguments: ServeArgs) -> Self {
        self.arguments = arguments;
        self.restart().await;
        self
    }

    /// Stops the server in order.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await.expect("the server stops in order");
        }
    }

    /// Another server on the same database, with a data directory of its own.
    pub async fn second_node(&self) -> (Server, TempDir) {
        let data_dir = tempfile::Builder::new().prefix("weft-data-").tempdir().expect("a temporary folder");
        std::fs::set_permissions(data_dir.path(), std::fs::Permissions::from_mode(0o711)).expect("permissions can be set");
        for key in ["master.key", "jwt.key"] {
            std::fs::copy(self.data_dir.path().join(key), data_dir.path().join(key)).expect("the keys can be copied");
        }
        let mut settings = self.settings();
        data_dir.path().clone_into(&mut settings.data_dir);
        (Server::start(settings, self.clock.clone()).await.expect("the second node starts"), data_dir)
    }

    /// Moves the server's clock forward, or back when `by` is negative.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn url(&self) -> String {
        url(self.server.as_ref().expect("the server runs"))
    }

    /// A client without a token.
    pub fn anonymous(&self) -> Api {
        Api::new(self.url())
    }

    /// Registers a user and logs in. The first one is the administrator.
    pub async fn user(&self, name: &str) -> Api {
        let anonymous = self.anonymous();
        let email = format!("{name}@example.com");
        let answer = anonymous.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.login(&email).await
    }

    /// Logs a registered user in.
    pub async fn login(&self, email: &str) -> Api {
        let answer = self.anonymous().post("/api/v1/auth/login", json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.anonymous().with_token(answer.text("/accessToken")).with_refresh_token(answer.text("/refreshToken"))
    }

    /// Logs a member of several tenants in to one of them.
    pub async fn login_to(&self, tenant: &str, email: &str) -> Api {
        let body = json!({ "email": email, "password": PASSWORD, "tenant": tenant });
        let answer = self.anonymous().post("/api/v1/auth/login", body).await.expect(200);
        self.anonymous().with_token(answer.text("/accessToken")).with_refresh_token(answer.text("/refreshToken"))
    }

    /// Makes a tenant and returns its administrator, `<name>@example.com`, who may have an account already.
    pub async fn tenant(&self, platform: &Api, id: &str, name: &str) -> Api {
        let email = format!("{name}@example.com");
        let administrator = json!({ "email": email, "password": PASSWORD });
        platform.post("/api/v1/tenants", json!({ "id": id, "administrator": administrator })).await.expect(201);
        self.login_to(id, &email).await
    }

    /// Gives a user a role with exactly these permissions.
    pub async fn grant(&self, administrator: &Api, user: &Api, permissions: &[&str]) {
        let user_id = user.get("/api/v1/auth/me").await.text("/id");
        let role = format!("role-of-{user_id}");
        let _ = administrator.delete(&format!("/api/v1/roles/{role}")).await;
        administrator.post("/api/v1/roles", json!({ "name": role, "permissions": permissions })).await.expect(200);
        administrator.post("/api/v1/roles/assign", json!({ "userId": user_id, "role": role })).await.expect(200);
    }

    /// Installs an integration and deploys a backend that consists of one file.
    pub async fn deploy(&self, administrator: &Api, manifest: &Value, backend: &str) {
        administrator.post("/api/v1/apps", manifest.clone()).await.expect(200);
        let id = manifest.get("appId").and_then(Value::as_str).expect("a manifest has an appId");
        administrator.deploy(id, &[("index.ts", backend)]).await.expect(200);
    }

    /// How many passwords the server has checked.
    pub fn password_checks(&self) -> u64 {
        self.server.as_ref().expect("the server runs").password_checks()
    }

    pub fn data_path(&self, name: &str) -> PathBuf {
        self.data_dir.path().join(name)
    }
}

/// Where packages come from, unless the test's settings say so.
fn package_registry() -> Option<String> {
    std::env::var_os("NPM_CONFIG_REGISTRY")?.into_string().ok()
}

/// The address of a server as a URL.
pub fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}
