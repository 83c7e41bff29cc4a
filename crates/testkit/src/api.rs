//! A client for tests: every answer with its status, headers and body, whatever they are.

use std::fmt;

use flate2::{Compression, write::GzEncoder};
use reqwest::{
    Client, Method, RequestBuilder,
    header::HeaderMap,
    multipart::{Form, Part},
    redirect::Policy,
};
use serde_json::Value;

/// A client with or without a token.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    pub token: Option<String>,
    pub refresh_token: Option<String>,
}

/// What a server answered.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    /// The body, when it is JSON.
    pub json: Value,
}

impl Api {
    pub fn new(base: String) -> Self {
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { client, base, token: None, refresh_token: None }
    }

    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    #[must_use]
    pub fn with_refresh_token(mut self, token: impl Into<String>) -> Self {
        self.refresh_token = Some(token.into());
        self
    }

    /// The same, but redirects are answers and not followed.
    #[must_use]
    pub fn staying(mut self) -> Self {
        self.client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
        self
    }

    /// The same token, sent to another server.
    #[must_use]
    pub fn at(mut self, base: impl Into<String>) -> Self {
        self.base = base.into();
        self
    }

    /// A request to build on.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Absolute URLs are those that the server itself gave out.
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("the answer is complete").to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, bytes, json }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Calls an action of an integration.
    pub async fn call(&self, integration: &str, action: &str, input: Value) -> Answer {
        self.post(&format!("/api/v1/integrations/{integration}/actions/{action}"), input).await
    }

    /// Deploys a backend of these files.
    pub async fn deploy(&self, app: &str, files: &[(&str, &str)]) -> Answer {
        self.deploy_archive(app, archive(files)).await
    }

    /// Deploys a frontend of these files.
    pub async fn deploy_frontend(&self, app: &str, files: &[(&str, &str)]) -> Answer {
        self.send(self.request(Method::POST, &format!("/api/v1/apps/{app}/frontend")).multipart(upload(files))).await
    }

    /// Deploys whatever bytes.
    pub async fn deploy_archive(&self, app: &str, archive: Vec<u8>) -> Answer {
        self.deploy_form(app, Form::new(), archive).await
    }

    /// Deploys a backend of these files together with a manifest, which is sent as it is.
    pub async fn deploy_with(&self, app: &str, manifest: &str, files: &[(&str, &str)]) -> Answer {
        let part = Part::text(manifest.to_owned()).mime_str("application/json").expect("a media type");
        self.deploy_form(app, Form::new().part("manifest", part), archive(files)).await
    }

    async fn deploy_form(&self, app: &str, form: Form, archive: Vec<u8>) -> Answer {
        let request = self.request(Method::POST, &format!("/api/v1/apps/{app}/deploy"));
        self.send(request.multipart(form.part("archive", packed(archive)))).await
    }

    /// Waits until the history holds `count` runs of a provider, which it does soon after they end, and returns them, newest first.
    pub async fn runs(&self, provider: &str, count: usize) -> Vec<Value> {
        for _ in 0..200 {
            let answer = self.get(&format!("/api/v1/runs?provider={provider}")).await.expect(200);
            let runs = answer.json.pointer("/data").and_then(Value::as_array).cloned().unwrap_or_default();
            if runs.len() >= count && runs.iter().all(|run| run.get("completedAt").is_some_and(|at| !at.is_null())) {
                return runs;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the history does not get {count} finished runs of {provider}");
    }
}

/// The form that uploads these files as a backend.
pub fn upload(files: &[(&str, &str)]) -> Form {
    Form::new().part("archive", packed(archive(files)))
}

fn packed(archive: Vec<u8>) -> Part {
    Part::bytes(archive).file_name("backend.tar.gz").mime_str("application/gzip").expect("a media type")
}

/// A gzip-compressed tar of these files.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, content.as_bytes()).expect("a plain file");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("in memory")
}

impl Answer {
    /// The same answer, if it has this status.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often called for its check alone")]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The text at a JSON Pointer.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let value = self.json.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text at {pointer} in {self:?}")).to_owned()
    }

    /// The value at a JSON Pointer; null when there is none.
    pub fn value(&self, pointer: &str) -> Value {
        self.json.pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    /// The error code of a problem.
    #[track_caller]
    pub fn code(&self) -> String {
        self.text("/code")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.status, String::from_utf8_lossy(&self.bytes))
    }
}
