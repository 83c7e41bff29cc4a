//! A server that answers as told and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Fake {
    pub url: String,
    shared: Arc<Shared>,
    served: Served,
}

/// A running server: what stops it, and what ends when it has.
struct Served {
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

/// The address of a server that is down: nobody else gets it, and nobody answers there.
pub struct Down(TcpSocket);

#[derive(Default)]
struct Shared {
    replies: Mutex<Vec<(String, VecDeque<Reply>)>>,
    requests: Mutex<Vec<Received>>,
}

#[derive(Clone)]
struct Reply {
    status: u16,
    run_id: Option<&'static str>,
    content_type: &'static str,
    body: String,
}

#[derive(Clone)]
pub struct Received {
    /// Method and path with its query.
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The parts of a multipart body: name, content type and content of each.
    pub async fn parts(&self) -> Vec<(String, String, Bytes)> {
        let mut request = Request::new(self.body.clone().into());
        *request.headers_mut() = self.headers.clone();
        let (mut form, mut parts) = (Multipart::from_request(request, &()).await.expect("a multipart body"), Vec::new());
        while let Some(part) = form.next_field().await.expect("a readable part") {
            let (name, kind) = (part.name().unwrap_or_default().to_owned(), part.content_type().unwrap_or_default().to_owned());
            parts.push((name, kind, part.bytes().await.expect("the part's content")));
        }
        parts
    }
}

impl Fake {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let served = serve(listener, &shared);
        Self { url, shared, served }
    }

    /// Goes down, and closes its connections.
    pub async fn stop(&mut self) -> Down {
        self.served.stop.cancel();
        (&mut self.served.ended).await.expect("the server ends");
        let address = self.url.trim_start_matches("http://").parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an address that was in use");
        socket.bind(address).expect("the same address");
        Down(socket)
    }

    /// Comes back where it was.
    pub fn back(&mut self, down: Down) {
        self.served = serve(down.0.listen(1024).expect("a listener"), &self.shared);
    }

    /// A server that a user is logged in to.
    pub async fn ready() -> Self {
        let fake = Self::start().await;
        fake.ok("GET /health", &json!({ "status": "ok" }));
        fake
    }

    pub fn ok(&self, line: &str, body: &Value) {
        self.reply(line, 200, body);
    }

    /// Adds an answer; several for one request line are given in turn, and the last one stays.
    pub fn reply(&self, line: &str, status: u16, body: &Value) {
        self.add(line, Reply { status, run_id: None, content_type: "application/json", body: body.to_string() });
    }

    pub fn failed_run(&self, line: &str, status: u16, run_id: &'static str, body: &Value) {
        self.add(line, Reply { status, run_id: Some(run_id), content_type: "application/json", body: body.to_string() });
    }

    pub fn text(&self, line: &str, status: u16, content_type: &'static str, body: &str) {
        self.add(line, Reply { status, run_id: None, content_type, body: body.to_owned() });
    }

    fn add(&self, line: &str, reply: Reply) {
        let mut replies = self.shared.replies.lock().expect("the lock");
        match replies.iter_mut().find(|(known, _)| known == line) {
            Some((_, queue)) => queue.push_back(reply),
            None => replies.push((line.to_owned(), VecDeque::from([reply]))),
        }
    }

    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().expect("the lock").clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    /// The only request with this line.
    pub fn request(&self, line: &str) -> Received {
        let mut found: Vec<_> = self.requests().into_iter().filter(|request| request.line == line).collect();
        assert_eq!(found.len(), 1, "{line} among {:?}", self.lines());
        found.remove(0)
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> Served {
    let app = axum::Router::new().fallback(answer).with_state(Arc::clone(shared));
    let stop = CancellationToken::new();
    let stopping = stop.clone().cancelled_owned();
    let ended =
        tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopping).await.expect("it serves") });
    Served { stop, ended }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let line = format!("{} {path}", head.method);
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    shared.requests.lock().expect("the lock").push(Received { line: line.clone(), headers: head.headers, body });
    let mut replies = shared.replies.lock().expect("the lock");
    let Some((_, queue)) = replies.iter_mut().find(|(known, _)| *known == line) else {
        // No table changes, unless a test says so.
        if line == "POST /api/v1/apps/schema/verify" {
            return json!({ "compliant": true, "changes": [] }).to_string().into_response();
        }
        return (StatusCode::NOT_FOUND, json!({ "error": format!("no route {line}"), "code": "not_found" }).to_string())
            .into_response();
    };
    let reply = if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }.expect("a reply");
    let mut response = (StatusCode::from_u16(reply.status).expect("a status"), reply.body).into_response();
    response.headers_mut().insert("content-type", reply.content_type.parse().expect("a header value"));
    if let Some(run_id) = reply.run_id {
        response.headers_mut().insert("x-weft-run-id", run_id.parse().expect("a header value"));
    }
    response
}
