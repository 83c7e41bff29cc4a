//! The whole program as a server, on a database of its own.

use std::{fs, os::unix::fs::PermissionsExt, process::ExitStatus, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use weft_testkit::{Api, database::runtime_dir};

const PASSWORD: &str = "Str0ngPass!x";

pub struct Program {
    child: Child,
    pub url: String,
    pub folder: TempDir,
}

impl Program {
    /// Starts it with these settings; what it says instead, where it does not start.
    pub async fn start(settings: &str, adapt: impl FnOnce(&mut Command)) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        // The accounts of the server's children have to pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("permissions can be set");
        fs::write(folder.path().join("weft.toml"), settings).expect("settings");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        command.arg("--config").arg(folder.path().join("weft.toml")).arg("--runtime-dir").arg(runtime_dir());
        command.env_remove("DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        adapt(&mut command);
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        while let Some(line) = lines.next_line().await.expect("text") {
            if let Some(url) = line.strip_prefix("Weft is ready at ") {
                let url = url.trim_end_matches('/').to_owned();
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(Self { child, url, folder });
            }
        }
        Err(fs::read_to_string(folder.path().join("log")).unwrap_or_default())
    }

    /// Its first user, the administrator.
    pub async fn administrator(&self) -> Api {
        let api = Api::new(self.url.clone());
        let account = json!({ "email": "alice@example.com", "password": PASSWORD });
        api.post("/api/v1/auth/register", account.clone()).await.expect(201);
        let tokens = api.post("/api/v1/auth/login", account).await.expect(200);
        api.with_token(tokens.text("/accessToken"))
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its own process and all below it: number and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        below(self.id())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().expect("a number")), signal).expect("the signal is sent");
    }

    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.expect("it ends")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }
}

fn below(process: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    let own = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let own = String::from_utf8_lossy(&own).replace('\0', " ");
    std::iter::once((process, own)).chain(children.into_iter().flat_map(below)).collect()
}
