//! Which addresses the client goes to, and which it does not, whatever a name or a redirect says.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, extract::State, http::HeaderMap, response::Redirect, routing::get};
use futures::StreamExt;
use weft_jail::Resolving;

use super::*;

const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), body: 1000, redirects: 3 };

/// Answers lookups from a list; the last answer stays.
#[derive(Default)]
struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    lookups: Arc<AtomicUsize>,
}

impl Names {
    fn leading_to(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Self { answers: Mutex::new(answers.iter().map(parse).collect()), lookups: Arc::default() }
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, _host: &'a str) -> Resolving<'a> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn outbound(allow: &[&str], names: Names) -> Outbound {
    let allow: Vec<_> = allow.iter().map(|&rule| rule.to_owned()).collect();
    Outbound::new(Arc::new(AddressGuard::new(&allow).unwrap()), names).unwrap()
}

fn get_request(url: &str) -> Request<Vec<u8>> {
    Request::get(url).body(Vec::new()).unwrap()
}

async fn ask(outbound: &Outbound, url: &str) -> Result<String, Error> {
    let answer = outbound.send(get_request(url), LIMITS).await?;
    Ok(String::from_utf8(answer.into_body()).unwrap())
}

/// A server that counts its requests, tells headers back, and redirects from `/to` to where `?` says.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let headers = |headers: HeaderMap| async move {
        ["authorization", "traceparent", "user-agent"]
            .map(|name| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned())
            .join(" ")
    };
    let redirect = |uri: axum::http::Uri| async move { Redirect::temporary(uri.query().unwrap_or_default()) };
    let count = |State(hits): State<Arc<AtomicUsize>>, request: axum::extract::Request, next: axum::middleware::Next| async move {
        hits.fetch_add(1, Ordering::SeqCst);
        next.run(request).await
    };
    let routes = Router::new()
        .route("/", get(headers))
        .route("/to", get(redirect).post(redirect))
        .route("/large", get(async || "x".repeat(1001)))
        .route("/endless", get(async || Body::from_stream(futures::stream::repeat("x".repeat(100)).map(Ok::<_, io::Error>))))
        .route("/never", get(async || std::future::pending::<String>().await))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&hits), count));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, hits)
}

#[tokio::test]
async fn every_way_of_writing_an_inward_address_is_refused_before_anything_is_sent() {
    let (address, hits) = server().await;
    let port = address.port();
    let outbound = outbound(&[], Names::default());
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "0",
        "①②⑦.⓪.⓪.①",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ] {
        let error = outbound.send(get_request_to(host, port), LIMITS).await.unwrap_err();
        assert!(matches!(error, Error::Inward { .. }), "{host}: {error}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

/// A request whose host is written as it is, as a URL from outside may have it.
fn get_request_to(host: &str, port: u16) -> Request<Vec<u8>> {
    let url = Url::parse(&format!("http://{host}:{port}/")).unwrap();
    get_request(url.as_str())
}

#[tokio::test]
async fn what_is_no_plain_web_address_is_refused() {
    let outbound = outbound(&["127.0.0.0/8"], Names::default());
    for url in ["ftp://example.com/", "file://host/etc/passwd", "http://user:pass@127.0.0.1/", "http://user@127.0.0.1/", "/path"]
    {
        assert_eq!(ask(&outbound, url).await, Err(Error::Address), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_inward_is_refused_and_one_that_leads_nowhere_is_named() {
    for inward in ["127.0.0.1", "10.1.1.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"] {
        let error = ask(&outbound(&[], Names::leading_to(&[&[inward]])), "http://inside.test/").await.unwrap_err();
        assert_eq!(error, Error::Inward { host: "inside.test".into() }, "{inward}");
    }
    let error = ask(&outbound(&[], Names::default()), "http://nowhere.test/?secret=1").await.unwrap_err();
    assert_eq!(error.to_string(), "the name nowhere.test cannot be looked up");
}

#[tokio::test]
async fn of_the_addresses_of_a_name_only_those_that_may_be_contacted_are_used() {
    let (address, hits) = server().await;
    let outbound = outbound(&["127.0.0.1"], Names::leading_to(&[&["10.0.0.1", "127.0.0.1"]]));
    ask(&outbound, &format!("http://mixed.test:{}/", address.port())).await.unwrap();
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let (address, _) = server().await;
    let silent = SocketAddr::from(([127, 0, 0, 2], address.port()));
    let listener = tokio::net::TcpSocket::new_v4().unwrap();
    listener.bind(silent).unwrap();
    let _listener = listener.listen(0).unwrap();
    // Nobody takes these, and when there is no room for more, whoever comes waits.
    let mut waiting = Vec::new();
    let connect = || tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(silent));
    while let Ok(stream) = connect().await {
        waiting.push(stream.unwrap());
    }
    let outbound = outbound(&["127.0.0.0/8"], Names::leading_to(&[&["127.0.0.2", "127.0.0.1"]]));
    ask(&outbound, &format!("http://two.test:{}/", address.port())).await.unwrap();
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_looked_up_once_per_connection_and_judged_each_time() {
    let (address, hits) = server().await;
    let names = Names::leading_to(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let lookups = Arc::clone(&names.lookups);
    let outbound = outbound(&["127.0.0.1"], names);
    let url = format!("http://rebind.test:{}/", address.port());
    let mut request = get_request(&url);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    outbound.send(request, LIMITS).await.unwrap();
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    assert_eq!(ask(&outbound, &url).await, Err(Error::Inward { host: "rebind.test".into() }));
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_inward_is_refused() {
    let (address, hits) = server().await;
    let outbound = outbound(&["127.0.0.1"], Names::leading_to(&[&["10.0.0.1"]]));
    for target in ["http://127.0.0.2/", "http://[::1]/", "http://2130706434/", "http://inside.test/", "//169.254.169.254/latest"]
    {
        let error = ask(&outbound, &format!("http://{address}/to?{target}")).await.unwrap_err();
        assert!(matches!(error, Error::Inward { .. }), "{target}: {error}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn redirects_are_followed_so_often_and_not_to_other_schemes() {
    let (address, _) = server().await;
    let outbound = outbound(&["127.0.0.1"], Names::default());
    assert!(ask(&outbound, &format!("http://{address}/to?/to?/to?/")).await.is_ok());
    assert_eq!(
        ask(&outbound, &format!("http://{address}/to?/to?/to?/to?/")).await.unwrap_err(),
        Error::Redirect { host: "127.0.0.1".into() }
    );
    assert_eq!(ask(&outbound, &format!("http://{address}/to?ftp://127.0.0.1/")).await, Err(Error::Address));
    let answer = outbound.send(get_request(&format!("http://{address}/to?/")), Limits { redirects: 0, ..LIMITS }).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    let post = Request::post(format!("http://{address}/to?/")).body(Vec::new()).unwrap();
    assert_eq!(outbound.send(post, LIMITS).await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn credentials_stay_with_the_origin_they_were_meant_for() {
    let ((here, _), (there, _)) = (server().await, server().await);
    let outbound = outbound(&["127.0.0.1"], Names::default());
    for (target, expected) in [("/".to_owned(), "secret"), (format!("http://{there}/"), "-")] {
        let mut request = get_request(&format!("http://{here}/to?{target}"));
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("secret"));
        let answer = outbound.send(request, LIMITS).await.unwrap().into_body();
        assert_eq!(String::from_utf8(answer).unwrap().split(' ').next(), Some(expected), "{target}");
    }
}

#[tokio::test]
async fn requests_carry_a_trace_and_say_who_asks() {
    let (address, _) = server().await;
    let answer = ask(&outbound(&["127.0.0.1"], Names::default()), &format!("http://{address}/")).await.unwrap();
    let parts: Vec<_> = answer.split(' ').collect();
    assert_eq!(parts[1].split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2], "{answer}");
    assert!(parts[2].starts_with("weft/"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_never_ends_is_given_up() {
    let (address, _) = server().await;
    let outbound = outbound(&["127.0.0.1"], Names::default());
    for path in ["large", "endless"] {
        let error = ask(&outbound, &format!("http://{address}/{path}")).await.unwrap_err();
        assert_eq!(error, Error::TooLarge { host: "127.0.0.1".into(), limit: 1000 }, "{path}");
    }
    let hasty = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let error = outbound.send(get_request(&format!("http://{address}/never")), hasty).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn an_error_tells_the_host_and_not_the_rest_of_the_address() {
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(&outbound(&["127.0.0.1"], Names::default()), &format!("http://{free}/path?token=hidden")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("hidden") && !error.to_string().contains("path"), "{error}");
}
