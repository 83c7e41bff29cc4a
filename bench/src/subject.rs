//! The server under measurement: the release build in a process of its own, and what is installed on it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use flate2::{Compression, write::GzEncoder};
use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::machine;

const PASSWORD: &str = "Str0ngPass!x";
/// What a call sends and gets back.
pub const INPUT: &str = r##"{"channel":"#general","text":"Hello from the bench"}"##;
/// A backend that does nothing, and too much.
pub const BACKEND: &str = "defineIntegration({ actions: {
    echo: (input) => input,
    burn: () => {
        const end = performance.now() + 50;
        while (performance.now() < end) globalThis.kept = Array.from({ length: 20 }, () => new Uint8Array(1 << 20).fill(1));
        return 'burnt';
    },
} });";

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Absent: the embedded database.
    pub database_url: Option<String>,
    /// Lines for its settings file.
    pub settings: String,
}

/// A running server.
pub struct Subject {
    child: Child,
    folder: tempfile::TempDir,
    launch: Launch,
    pub address: String,
    pub token: String,
    client: Client,
}

/// The program of the release build, beside this one.
pub fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("weft");
    ensure!(program.is_file(), "{} is missing: run `make bench`, which builds it", program.display());
    Ok(program)
}

impl Subject {
    /// Starts on a fresh data directory with one user, the administrator.
    pub async fn start(launch: Launch) -> anyhow::Result<Self> {
        let folder = folder()?;
        std::fs::write(folder.path().join("weft.toml"), &launch.settings)?;
        let (child, address, _) = serve(folder.path(), &launch).await?;
        let client = Client::builder().no_proxy().build()?;
        let mut subject = Self { child, folder, launch, address, token: String::new(), client };
        let user = json!({ "email": "bench@example.com", "password": PASSWORD });
        subject.post("/api/v1/auth/register", &user).await?;
        let login = subject.post("/api/v1/auth/login", &user).await?;
        login.get("accessToken").and_then(Value::as_str).context("a token")?.clone_into(&mut subject.token);
        Ok(subject)
    }

    /// The same with a no-op integration of that name.
    pub async fn with_integration(launch: Launch, id: &str) -> anyhow::Result<Self> {
        let subject = Self::start(launch).await?;
        subject.deploy(id).await?;
        Ok(subject)
    }

    /// Installs and deploys an integration whose action returns its input.
    pub async fn deploy(&self, id: &str) -> anyhow::Result<()> {
        let properties = json!({ "channel": { "type": "string" }, "text": { "type": "string" } });
        let schema = json!({ "type": "object", "properties": properties, "required": ["channel", "text"] });
        let actions = json!([
            { "id": "echo", "name": "Echo", "inputSchema": schema, "outputSchema": schema },
            { "id": "burn", "name": "Burn" },
        ]);
        self.install(&json!({ "appId": id, "name": id, "type": "integration", "actions": actions })).await?;
        let part = Part::bytes(archive()?).file_name("backend.tar.gz").mime_str("application/gzip")?;
        let request = self.client.post(self.url(&format!("/api/v1/apps/{id}/deploy"))).bearer_auth(&self.token);
        let answer = request.multipart(Form::new().part("archive", part)).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    pub async fn install(&self, manifest: &Value) -> anyhow::Result<()> {
        self.post("/api/v1/apps", manifest).await.map(|_| ())
    }

    /// Calls the echo of an integration.
    pub async fn call(&self, id: &str) -> anyhow::Result<()> {
        let input = serde_json::from_str(INPUT)?;
        self.post(&format!("/api/v1/integrations/{id}/actions/echo"), &input).await.map(|_| ())
    }

    /// Stops the server in order and measures how long it takes to be ready again on the same data.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.stop().await?;
        let ready;
        (self.child, self.address, ready) = serve(self.folder.path(), &self.launch).await?;
        Ok(ready)
    }

    /// Sends SIGTERM and waits.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.id()?.to_string()).status().await?;
        self.child.wait().await?;
        Ok(())
    }

    /// Resident memory of the server, in MiB.
    pub fn memory(&self) -> anyhow::Result<f64> {
        machine::resident(self.id()?).context("the server runs")
    }

    /// Resident memory of its largest worker, in MiB; 0 when none runs.
    pub fn worker_memory(&self) -> anyhow::Result<f64> {
        let workers = machine::children(self.id()?).into_iter().filter(|id| machine::command_line(*id).contains("prelude.ts"));
        Ok(workers.filter_map(machine::resident).fold(0.0, f64::max))
    }

    /// The processor time used so far by the server, its workers and its embedded database, in seconds.
    pub fn processor_times(&self) -> anyhow::Result<[f64; 3]> {
        let server = self.id()?;
        let [mut workers, mut database] = [0.0; 2];
        for child in machine::children(server) {
            if machine::command_line(child).contains("prelude.ts") {
                workers += machine::processor_time(child);
            } else {
                let sessions = machine::children(child).into_iter().chain([child]);
                database += sessions.map(machine::processor_time).sum::<f64>();
            }
        }
        Ok([machine::processor_time(server), workers, database])
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server runs")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        read(path, self.client.get(self.url(path)).bearer_auth(&self.token)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        read(path, self.client.put(self.url(path)).bearer_auth(&self.token).json(body)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        read(path, self.client.post(self.url(path)).bearer_auth(&self.token).json(body)).await
    }
}

async fn read(path: &str, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A temporary folder that the accounts of the server's children can pass.
pub fn folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    Ok(folder)
}

/// Starts the server; also how long it took until `/health` answered.
async fn serve(folder: &Path, launch: &Launch) -> anyhow::Result<(Child, String, Duration)> {
    let begin = Instant::now();
    let mut command = Command::new(program()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("weft.toml"));
    command.arg("--data-dir").arg(folder.join("data")).env_remove("DATABASE_URL");
    if let Some(url) = &launch.database_url {
        command.env("DATABASE_URL", url);
    }
    let log = std::fs::File::create(folder.join("server.log"))?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("Weft is ready at http://") {
            let address = address.trim_end_matches('/').to_owned();
            // What the server still prints has to go somewhere.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            let health = format!("http://{address}/health");
            read(&health, Client::builder().no_proxy().build()?.get(&health)).await?;
            return Ok((child, address, begin.elapsed()));
        }
    }
    anyhow::bail!("the server does not start: {}", std::fs::read_to_string(folder.join("server.log"))?)
}

fn archive() -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(BACKEND.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "index.ts", BACKEND.as_bytes())?;
    Ok(builder.into_inner()?.finish()?)
}
