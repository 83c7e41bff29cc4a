//! The server under measurement: started from its release build with a fresh embedded database, with a no-op integration.

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

const PASSWORD: &str = "Str0ngPass!x";
const BACKEND: &str = "defineIntegration({ actions: { echo: (input) => input } });";

/// A running server.
pub struct Subject {
    child: Child,
    folder: tempfile::TempDir,
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
    /// Starts on a fresh data directory, registers a user and deploys the no-op integration.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let (child, address) = serve(folder.path()).await?;
        let mut subject = Self { child, folder, address, token: String::new(), client: Client::builder().no_proxy().build()? };
        let user = json!({ "email": "bench@example.com", "password": PASSWORD });
        subject.post("/api/v1/auth/register", &user).await?;
        let login = subject.post("/api/v1/auth/login", &user).await?;
        subject.token = login.get("accessToken").and_then(Value::as_str).context("a token")?.to_owned();
        subject.deploy("noop").await?;
        Ok(subject)
    }

    /// Installs and deploys an integration whose action returns its input.
    pub async fn deploy(&self, id: &str) -> anyhow::Result<()> {
        let properties = json!({ "channel": { "type": "string" }, "text": { "type": "string" } });
        let schema = json!({ "type": "object", "properties": properties, "required": ["channel", "text"] });
        let action = json!({ "id": "echo", "name": "Echo", "inputSchema": schema });
        self.post("/api/v1/apps", &json!({ "appId": id, "name": id, "type": "integration", "actions": [action] })).await?;
        let part = Part::bytes(archive()?).file_name("backend.tar.gz").mime_str("application/gzip")?;
        let request = self.client.post(self.url(&format!("/api/v1/apps/{id}/deploy"))).bearer_auth(&self.token);
        let answer = request.multipart(Form::new().part("archive", part)).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// Stops the worker and measures a call that has to start it again.
    pub async fn cold_call(&self) -> anyhow::Result<Duration> {
        self.post("/api/v1/apps/noop/worker/stop", &json!({})).await?;
        self.post("/api/v1/apps/noop/worker/start", &json!({})).await?;
        self.post("/api/v1/apps/noop/worker/stop", &json!({})).await?;
        let begin = Instant::now();
        self.post("/api/v1/apps/noop/worker/start", &json!({})).await?;
        self.post("/api/v1/integrations/noop/actions/echo", &json!({ "channel": "c", "text": "t" })).await?;
        Ok(begin.elapsed())
    }

    /// Stops the server in order and measures how long it takes to be ready again on the same data.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.stop().await?;
        let begin = Instant::now();
        (self.child, self.address) = serve(self.folder.path()).await?;
        Ok(begin.elapsed())
    }

    /// Sends SIGTERM and waits.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("the server runs")?;
        Command::new("kill").arg(id.to_string()).status().await?;
        self.child.wait().await?;
        Ok(())
    }

    /// Resident memory of the server and of the no-op worker, in MiB.
    pub fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let server = self.child.id().context("the server runs")?;
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let all = children.split_whitespace().filter_map(|id| id.parse().ok()).chain(tasks(server));
        let workers: Vec<f64> = all.filter(|id| command(*id).contains("prelude.ts")).filter_map(resident).collect();
        Ok((resident(server).unwrap_or(0.0), workers.into_iter().fold(0.0, f64::max)))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.client.post(self.url(path)).bearer_auth(&self.token).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

async fn serve(folder: &Path) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(program()?)
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("Weft is ready at http://") {
            let address = address.trim_end_matches('/').to_owned();
            // What the server still prints has to go somewhere.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, address));
        }
    }
    anyhow::bail!("the server does not start")
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

/// Children started by the other threads of a process.
fn tasks(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

fn command(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
}

fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
