//! A host with a small platform behind it, and a temporary folder per test that holds the backends.

use serde_json::{Value, json, value::RawValue, value::to_raw_value};
use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::broadcast, time::timeout};
use weft_workers::{Call, CallError, Failure, Host, HostSettings, Level, LogLine, Platform, RestartPolicy, WorkerSpec};

pub type TestResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

pub const APP: &str = "crm";
/// Another app on the same host.
const OTHER: &str = "other";
/// No test waits this long unless something is broken.
pub const LONG: Duration = Duration::from_secs(30);

/// Who calls.
pub struct Caller(pub String);

#[derive(Default)]
pub struct TestPlatform {
    host: OnceLock<Weak<Host<TestPlatform>>>,
    /// (caller, message) of every line that belongs to a call.
    attributed: Mutex<Vec<(String, String)>>,
    /// (caller, host:port) of every connection that belongs to a call.
    contacts: Mutex<Vec<(String, String)>>,
}

impl Platform for TestPlatform {
    type Context = Caller;

    async fn self_action(
        &self,
        app: Arc<str>,
        context: Arc<Caller>,
        action: String,
        params: Box<RawValue>,
    ) -> Result<Box<RawValue>, CallError> {
        let bad = |error: serde_json::Error| Failure::new(error.to_string());
        let params: Value = serde_json::from_str(params.get()).map_err(bad)?;
        match action.as_str() {
            "whoami" => Ok(to_raw_value(&json!({ "caller": context.0, "params": params })).map_err(bad)?),
            "call_again" => {
                let host = self.host.get().and_then(Weak::upgrade).ok_or_else(|| Failure::new("no host"))?;
                let params = to_raw_value(&params).map_err(bad)?;
                let call = Call {
                    method: "echo",
                    job: None,
                    params: &params,
                    caller: None,
                    context: &context,
                    timeout: LONG,
                    nested: true,
                };
                host.call(&app, &call).await
            }
            other => Err(Failure::new(format!("no action {other}")).with_code("no_such_action").into()),
        }
    }

    fn contacted(&self, _app: &str, context: &Arc<Caller>, host: &str, port: u16) {
        let entry = (context.0.clone(), format!("{host}:{port}"));
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn log(&self, _app: &str, context: Option<&Arc<Caller>>, line: &LogLine) {
        if let Some(caller) = context {
            let entry = (caller.0.clone(), line.message.to_string());
            self.attributed.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
    }
}

impl TestPlatform {
    pub fn contacts(&self) -> Vec<(String, String)> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn attributed(&self) -> Vec<(String, String)> {
        self.attributed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub struct Rig {
    pub host: Arc<Host<TestPlatform>>,
    pub platform: Arc<TestPlatform>,
    pub folder: TempDir,
}

impl Rig {
    pub fn new() -> TestResult<Self> {
        Self::with(|_| {})
    }

    pub fn with(adjust: impl FnOnce(&mut HostSettings)) -> TestResult<Self> {
        let prelude = repository().join("js/worker/src/prelude.ts");
        let mut settings = HostSettings::new(bun()?, prelude, "http://127.0.0.1:9");
        settings.start_timeout = LONG;
        settings.restarts = RestartPolicy { pauses: vec![Duration::ZERO; 4], window: LONG * 100 };
        adjust(&mut settings);
        let platform = Arc::new(TestPlatform::default());
        let host = Host::new(settings, Arc::clone(&platform));
        platform.host.set(Arc::downgrade(&host)).map_err(|_| "the host is set once")?;
        Ok(Self { host, platform, folder: TempDir::new()? })
    }

    /// A rig that runs a backend with these handlers.
    pub async fn serving(handlers: &str) -> TestResult<Self> {
        let rig = Self::new()?;
        rig.deploy(&format!("serve({{ rpc: {{ {handlers} }} }});")).await?;
        Ok(rig)
    }

    pub async fn deploy(&self, source: &str) -> TestResult {
        Ok(self.host.start(self.spec(source)?).await?)
    }

    /// Deploys a backend with this source as another app.
    pub async fn deploy_other(&self, source: &str) -> TestResult {
        self.write("other.ts", source)?;
        Ok(self.host.start(self.spec_of(OTHER, "other.ts")?).await?)
    }

    /// A spec for a backend with this source, written to the test's folder.
    pub fn spec(&self, source: &str) -> TestResult<WorkerSpec> {
        self.write("index.ts", source)?;
        self.spec_of(APP, "index.ts")
    }

    fn spec_of(&self, app: &str, entry_point: &str) -> TestResult<WorkerSpec> {
        Ok(WorkerSpec {
            app_id: app.into(),
            directory: self.folder.path().to_owned(),
            entry_point: entry_point.into(),
            scratch: Some(self.folder.path().to_owned()),
            account: None,
            egress: None,
            environment: vec![("GREETING".to_owned(), "hello".to_owned())],
            credentials: BTreeMap::from([("TOKEN".to_owned(), "t-1".to_owned())]),
            manifest: to_raw_value(&json!({ "name": "CRM" }))?,
            run_on_start: false,
            dev: false,
            memory_limit: None,
            keep_running: false,
        })
    }

    pub fn write(&self, file: &str, text: &str) -> TestResult {
        Ok(std::fs::write(self.folder.path().join(file), text)?)
    }

    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        self.call_as("ann", method, params, LONG).await
    }

    /// Calls a method of the other app.
    pub async fn call_other(&self, method: &str) -> Result<Value, CallError> {
        self.call_app((OTHER, "ann"), method, Value::Null, LONG).await
    }

    pub async fn call_as(&self, caller: &str, method: &str, params: Value, limit: Duration) -> Result<Value, CallError> {
        self.call_app((APP, caller), method, params, limit).await
    }

    async fn call_app(
        &self,
        (app, caller): (&str, &str),
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, CallError> {
        let raw = |value: &Value| to_raw_value(value).map_err(|error| Failure::new(error.to_string()));
        let identity = raw(&json!({ "userId": caller, "email": format!("{caller}@example.org") }))?;
        let (params, context) = (raw(&params)?, Arc::new(Caller(caller.to_owned())));
        let call = Call {
            method,
            job: None,
            params: &params,
            caller: Some(&identity),
            context: &context,
            timeout: limit,
            nested: false,
        };
        let result = self.host.call(app, &call).await?;
        Ok(serde_json::from_str(result.get()).map_err(|error| Failure::new(error.to_string()))?)
    }
}

/// Follows one app's log.
pub struct Watch(broadcast::Receiver<LogLine>);

impl Watch {
    pub fn new(rig: &Rig) -> Self {
        Self(rig.host.logs(APP))
    }

    /// The log of the other app.
    pub fn other(rig: &Rig) -> Self {
        Self(rig.host.logs(OTHER))
    }

    /// The next line that starts with this text.
    pub async fn line(&mut self, start: &str) -> TestResult<LogLine> {
        timeout(LONG, self.find(start)).await.map_err(|_| format!("no log line starts with `{start}`"))?
    }

    /// The next line that contains this text, even if others are missed.
    pub async fn line_with(&mut self, text: &str) -> TestResult<LogLine> {
        let find = self.find_where(|line| line.message.contains(text));
        timeout(LONG, find).await.map_err(|_| format!("no log line contains `{text}`"))?
    }

    async fn find(&mut self, start: &str) -> TestResult<LogLine> {
        self.find_where(|line| line.message.starts_with(start)).await
    }

    async fn find_where(&mut self, fits: impl Fn(&LogLine) -> bool) -> TestResult<LogLine> {
        loop {
            match self.0.recv().await {
                Ok(line) if fits(&line) => return Ok(line),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(closed) => return Err(closed.into()),
            }
        }
    }

    /// All system entries so far.
    pub fn system(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_recv().ok())
            .filter(|line| line.level == Level::System)
            .map(|line| line.message.to_string())
            .collect()
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder with Bun and PostgreSQL: `WEFT_RUNTIME_DIR`, or the repository's `runtime`.
pub fn runtime() -> PathBuf {
    std::env::var_os("WEFT_RUNTIME_DIR").map_or_else(|| repository().join("runtime"), PathBuf::from)
}

pub fn bun() -> TestResult<PathBuf> {
    std::fs::read_dir(runtime().join("node_modules/@oven"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/bun")))
        .find(|path| path.exists())
        .ok_or_else(|| format!("no Bun below {}; run `npm install` there", runtime().display()).into())
}
