//! Who may call what: every route of the router × everybody who might call it → the status. The snapshot is the table to read.
//!
//! The routes come from the router, the right from the router's own refusal, and only the requests to try them with are written down
//! here (`requests`). A route that is not among them fails the test, so whoever adds one has to say how it is called.

mod requests;
mod world;

use std::{collections::BTreeSet, fmt::Write};

use reqwest::Method;
use serde_json::Value;
use weft_testkit::{Api, TestServer};

use self::{
    requests::{Body, Sample, sample},
    world::World,
};

/// What is asked of one route.
struct Row {
    /// `METHOD /path`.
    route: String,
    /// The keys of which one is enough, `a token` or `public`.
    right: String,
    /// One per column of [`COLUMNS`].
    statuses: Vec<String>,
}

const COLUMNS: [&str; 7] = ["nobody", "expired", "disabled", "no right", "other tenant", "machine", "exact right"];

/// Every route: those of the document, and those that serve the document itself.
fn routes(document: &Value) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            routes.insert((path.clone(), method.to_uppercase()));
        }
    }
    let undocumented: Vec<_> =
        weft_server::route_paths().into_iter().filter(|path| document["paths"].get(path.replace("{*", "{")).is_none()).collect();
    routes.extend(undocumented.into_iter().map(|path| (path, "GET".to_owned())));
    routes
}

async fn ask(api: &Api, method: &str, sample: Sample) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = api.request(method, &sample.path);
    let request = match sample.body {
        Body::None => request,
        Body::Json(body) => request.json(&body),
        Body::Form(body) => request.header("content-type", "application/x-www-form-urlencoded").body(body),
        Body::File(name) => request.multipart(world::file(&name)),
        Body::Raw => request.body("a"),
        Body::Archive(files) => request.multipart(weft_testkit::api::upload(&files)),
    };
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    // Only refusals are read: some answers go on for as long as somebody listens.
    let body = if status == 403 { response.json().await.unwrap_or_default() } else { Value::Null };
    (status, body)
}

/// The keys that a refusal names, as they stand in the path's pattern.
fn required(refusal: &Value) -> Vec<String> {
    let keys = refusal["requires"].as_array().into_iter().flatten();
    keys.map(|key| key.as_str().unwrap_or_default().to_owned()).collect()
}

async fn row(world: &World<'_>, path: &str, method: &str) -> Row {
    let route = format!("{method} {path}");
    let sample = async || match sample(world, &route).await {
        Some(sample) => sample,
        None => panic!("{route} is in the router and not in the table: say in matrix/requests.rs how it is called"),
    };
    let mut statuses = Vec::new();
    for api in [&world.nobody, &world.expired, &world.disabled] {
        statuses.push(ask(api, method, sample().await).await.0);
    }
    let public = statuses != [401, 401, 401];
    world.hold(&[]).await;
    let (without, refusal) = ask(&world.without, method, sample().await).await;
    let mut needs = required(&refusal);
    let beyond = requests::BEYOND_ONES_OWN.iter().find(|(known, _)| *known == route).map(|(_, key)| (*key).to_owned());
    needs.extend(beyond.clone());
    let elsewhere = ask(&world.elsewhere, method, sample().await).await.0;
    statuses.extend([without, elsewhere]);
    let mut statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();

    let (mut machine, mut person) = (Vec::new(), Vec::new());
    // Each of several keys has to be enough by itself.
    let alternatives: Vec<&[String]> = if needs.is_empty() { vec![&[]] } else { needs.chunks(1).collect() };
    for keys in alternatives {
        world.hold(keys).await;
        for (api, seen) in [(&world.machine, &mut machine), (&world.exact, &mut person)] {
            let (status, refusal) = ask(api, method, sample().await).await;
            assert!(needs.is_empty() || status != 403, "{route} with {keys:?}: {refusal}");
            seen.push(status.to_string());
        }
    }
    for mut seen in [machine, person] {
        seen.dedup();
        statuses.push(seen.join("/"));
    }
    check(&route, public, &statuses);
    let right = match (public, beyond) {
        (true, _) => "public".to_owned(),
        (false, Some(key)) => format!("a token; of others: {key}"),
        (false, None) if needs.is_empty() => "a token".to_owned(),
        (false, None) => world::pattern(path, &needs.join(" | ")),
    };
    Row { route, right, statuses }
}

/// What holds for every route, whatever the table says.
fn check(route: &str, public: bool, statuses: &[String]) {
    if public {
        let first = &statuses[..3];
        assert!(
            first.iter().all(|status| *status == first[0]),
            "{route}: a token changes nothing where none is needed: {first:?}"
        );
        return;
    }
    let elsewhere = statuses[4].as_str();
    let finds_something = route.contains('{') && !requests::NAMES_NOTHING.contains(&route);
    if finds_something {
        assert!(["403", "404"].contains(&elsewhere), "{route}: another tenant's administrator gets {elsewhere}");
    }
    let let_in = statuses[3..].iter().flat_map(|cell| cell.split('/')).all(|status| status != "401" && !status.starts_with('5'));
    assert!(let_in, "{route}: {statuses:?}");
}

fn table(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or_default();
    let (route, right) = (width(|row| row.route.len()), width(|row| row.right.len()));
    let mut text = format!("{:route$}  {:right$}", "route", "right");
    for column in COLUMNS {
        let _ = write!(text, "  {column:>12}");
    }
    for row in rows {
        let _ = write!(text, "\n{:route$}  {:right$}", row.route, row.right);
        for status in &row.statuses {
            let _ = write!(text, "  {status:>12}");
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let server = TestServer::start().await;
    let world = World::create(&server).await;
    let document = server.anonymous().get("/api/openapi.json").await.expect(200).json;
    let mut rows = Vec::new();
    for (path, method) in routes(&document) {
        let row = row(&world, &path, &method).await;
        let declared = document["paths"].get(&path).and_then(|operations| operations.get(method.to_lowercase()));
        let says_public = declared.is_none_or(|operation| operation["security"] == serde_json::json!([{}]));
        assert_eq!(says_public, row.right == "public", "{}: what the document says", row.route);
        rows.push(row);
    }
    assert!(rows.len() > 80, "{}", rows.len());
    insta::assert_snapshot!("routes", table(&rows));
}

/// A handler that somebody hangs on a documented path without documenting it would escape the walk.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_takes_the_documented_methods_and_no_others() {
    let server = TestServer::start().await;
    let nobody = server.anonymous();
    let document = nobody.get("/api/openapi.json").await.expect(200).json;
    let routes = routes(&document);
    for path in routes.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
        // Parameters are whatever: what a path takes is said before anything is looked at.
        let filled = path.replace("{*rest}", "x").replace(['{', '}'], "");
        let brew = Method::from_bytes(b"BREW").expect("a method");
        let answer = nobody.send(nobody.request(brew, &filled)).await.expect(405);
        let allowed: BTreeSet<String> = answer.header("allow").unwrap_or_default().split(',').map(str::to_owned).collect();
        let mut expected: BTreeSet<String> =
            routes.iter().filter(|(other, _)| other == path).map(|(_, method)| method.clone()).collect();
        if expected.contains("GET") {
            expected.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, expected, "{path}");
    }
}
