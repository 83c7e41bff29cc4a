//! Files of apps: uploaded, handed out, removed; addresses that are good for once; quotas, tenants, workers, and a store that speaks S3.

use bytes::Bytes;
use chrono::Duration;
use futures::StreamExt;
use reqwest::{
    Body, Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weft_testkit::{Answer, Api, TestServer, s3::S3};

use crate::fixtures::{app, eventually, integration};

const STORAGE: &str = "/api/v1/apps/crm/storage";

async fn started() -> (TestServer, Api) {
    started_with("").await
}

async fn started_with(settings: &str) -> (TestServer, Api) {
    let server = TestServer::start_with_file(settings).await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    (server, admin)
}

fn part(name: &str, kind: &str, content: impl Into<Vec<u8>>) -> Form {
    let part = Part::bytes(content.into()).file_name(name.to_owned()).mime_str(kind).expect("a type");
    Form::new().part("file", part)
}

async fn send(api: &Api, path: &str, form: Form) -> Answer {
    api.send(api.request(Method::POST, path).multipart(form)).await
}

async fn upload(api: &Api, name: &str, content: impl Into<Vec<u8>>) -> Value {
    send(api, &format!("{STORAGE}/upload"), part(name, "text/plain", content)).await.expect(201).json
}

fn at(file: &Value) -> String {
    format!("{STORAGE}/{}", file["file_id"].as_str().expect("an id"))
}

fn in_store(server: &TestServer) -> Vec<std::path::PathBuf> {
    fn below(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                below(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    below(&server.data_path("files"), &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_as_it_was_and_no_browser_takes_it_for_a_page() {
    let (server, admin) = started().await;
    let page = "<html><script>alert(1)</script></html>";
    let form = part("../../../etc/pass\"wd.png", "image/png", page);
    let file = send(&admin, &format!("{STORAGE}/upload"), form).await.expect(201).json;
    assert_eq!((&file["name"], &file["content_type"]), (&json!("pass\"wd.png"), &json!("text/html")));
    assert_eq!((&file["size"], &file["digest"]), (&json!(page.len()), &json!(hex::encode(Sha256::digest(page)))));
    let answer = admin.get(&at(&file)).await.expect(200);
    assert_eq!(answer.bytes, page.as_bytes());
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-length", "38"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("content-disposition", "attachment; filename=\"pass_wd.png\"; filename*=UTF-8''pass%22wd.png"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    // Nothing of the name is in the store, and nothing can be read there.
    let objects = in_store(&server);
    assert_eq!(objects.len(), 1);
    assert!(objects[0].ends_with(file["file_id"].as_str().expect("an id")), "{objects:?}");
    let kept = std::fs::read(&objects[0]).expect("readable");
    assert!(!kept.windows(8).any(|window| window == b"<script>"), "it is sealed");
    let mut damaged = kept;
    damaged[40] ^= 1;
    std::fs::write(&objects[0], damaged).expect("written");
    let broken = admin.get(&at(&file)).await.expect(500);
    assert!(!broken.text("/error").contains("script"), "what was changed is not handed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_and_deleted_with_what_they_hold() {
    let (server, admin) = started().await;
    let (first, second) = (upload(&admin, "a.txt", "a").await, upload(&admin, "b.txt", "b").await);
    let page = admin.get(&format!("{STORAGE}?limit=1")).await.expect(200);
    assert_eq!(page.value("/data/0/name"), "b.txt");
    let rest = admin.get(&format!("{STORAGE}?limit=1&cursor={}", page.text("/nextCursor"))).await.expect(200);
    assert_eq!((rest.value("/data/0/name"), rest.value("/nextCursor")), (json!("a.txt"), Value::Null));
    assert_eq!(admin.delete(&at(&first)).await.expect(200).json, json!({ "deleted": first["file_id"] }));
    admin.get(&at(&first)).await.expect(404);
    admin.delete(&at(&first)).await.expect(404);
    admin.get(&at(&second)).await.expect(200);
    let said = admin.get("/api/v1/audit/events?limit=20").await.expect(200);
    assert!(said.json["data"].as_array().expect("a list").iter().any(|event| event["action"] == "file.deleted"));
    eventually("what it held is gone", async || (in_store(&server).len() == 1).then_some(())).await;
    admin.delete("/api/v1/apps/crm").await.expect(200);
    eventually("and with the app the rest", async || in_store(&server).is_empty().then_some(())).await;
    eventually("and what is known of it", async || {
        let left = server.database.count("files").await + server.database.count("file_remains").await;
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_route_takes_known_kinds_and_what_is_wrong_is_said() {
    let (_server, admin) = started().await;
    let old = "/api/v1/apps/crm/upload";
    let stored = send(&admin, old, part("Data.CSV", "text/csv", "a,b")).await.expect(201);
    assert_eq!((stored.value("/original_name"), stored.value("/size")), (json!("Data.CSV"), json!(3)));
    let refused = send(&admin, old, part("run.exe", "text/csv", "MZ")).await.expect(400);
    assert!(refused.text("/error").contains("'.exe'"));
    send(&admin, &format!("{STORAGE}/upload"), part("a", "text/plain", "")).await.expect(400);
    send(&admin, &format!("{STORAGE}/upload"), Form::new()).await.expect(400);
    admin.post(&format!("{STORAGE}/upload"), json!({})).await.expect(400);
    send(&admin, "/api/v1/apps/none/storage/upload", part("a", "text/plain", "a")).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_good_for_once_and_for_its_time() {
    let (server, admin) = started().await;
    let nobody = server.anonymous();
    let raw = async |url: &str, content: &str| nobody.send(nobody.request(Method::POST, url).body(content.to_owned())).await;
    let ask = async |body: Value| admin.post(&format!("{STORAGE}/upload-url"), body).await.expect(201).text("/url");
    let url = ask(json!({ "name": "note.txt", "content_type": "text/plain" })).await;
    let file = raw(&url, "hello").await.expect(201).json;
    assert_eq!((&file["name"], &file["size"]), (&json!("note.txt"), &json!(5)));
    raw(&url, "again").await.expect(404);
    // What goes wrong uses it up too.
    let small = ask(json!({ "name": "note.txt", "size": 3 })).await;
    raw(&small, "hello").await.expect(413);
    raw(&small, "hi").await.expect(404);
    let late = ask(json!({ "name": "note.txt" })).await;
    let download = async || admin.post(&format!("{}/download-url", at(&file)), json!({})).await.expect(201).text("/url");
    let url = download().await;
    nobody.send(nobody.request(Method::HEAD, &url)).await.expect(405);
    assert_eq!(nobody.get(&url).await.expect(200).bytes, b"hello");
    nobody.get(&url).await.expect(404);
    let long = download().await;
    raw(&long.replace("/download/", "/upload/"), "x").await.expect(404);
    server.advance(Duration::seconds(61));
    raw(&late, "hello").await.expect(404);
    server.advance(Duration::seconds(240));
    nobody.get(&long).await.expect(404);
    nobody.get("/api/v1/storage/download/none").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_need_permissions_of_the_app_and_are_not_found_by_other_apps_and_tenants() {
    let (server, admin) = started().await;
    let file = upload(&admin, "a.txt", "a").await;
    let user = server.user("ann").await;
    user.get(&at(&file)).await.expect(403);
    server.grant(&admin, &user, &["app:crm:file.read"]).await;
    user.get(&at(&file)).await.expect(200);
    user.delete(&at(&file)).await.expect(403);
    send(&user, &format!("{STORAGE}/upload"), part("a", "text/plain", "a")).await.expect(403);
    user.post(&format!("{STORAGE}/upload-url"), json!({ "name": "a" })).await.expect(403);
    admin.post("/api/v1/apps", app("other")).await.expect(200);
    admin.get(&at(&file).replace("/crm/", "/other/")).await.expect(404);
    let elsewhere = server.tenant(&admin, "elsewhere", "elsewhere").await;
    elsewhere.get(&at(&file)).await.expect(404);
    elsewhere.get(STORAGE).await.expect(404);
    elsewhere.delete(&at(&file)).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_tenant_may_have_so_much_and_no_more() {
    let (server, admin) = started_with("[files]\nmax_mib = 2\ntenant_mib = 3\n").await;
    let mib = |count: usize| vec![b'x'; count * 1024 * 1024];
    let file = upload(&admin, "a.txt", mib(2)).await;
    let too_large = send(&admin, &format!("{STORAGE}/upload"), part("b", "text/plain", vec![b'x'; 2 * 1024 * 1024 + 1])).await;
    assert_eq!(too_large.expect(413).code(), "payload_too_large");
    let full = send(&admin, &format!("{STORAGE}/upload"), part("b", "text/plain", mib(2))).await.expect(507);
    assert!(full.text("/error").contains("files.tenant_mib"), "{full:?}");
    // Another tenant has its own.
    let other = server.tenant(&admin, "elsewhere", "elsewhere").await;
    other.post("/api/v1/apps", app("theirs")).await.expect(200);
    send(&other, "/api/v1/apps/theirs/storage/upload", part("b", "text/plain", mib(2))).await.expect(201);
    admin.delete(&at(&file)).await.expect(200);
    upload(&admin, "c.txt", mib(2)).await;
    // Of what was refused nothing is left.
    eventually("two files are in the store", async || (in_store(&server).len() == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_passed_on_while_it_comes_and_while_it_goes() {
    const MIB: usize = 1024 * 1024;
    let (server, admin) = started().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let content = tokio_stream::wrappers::ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>);
    let part = Part::stream(Body::wrap_stream(content)).file_name("large.bin");
    let request = admin.request(Method::POST, &format!("{STORAGE}/upload")).multipart(Form::new().part("file", part));
    let uploading = tokio::spawn(request.send());
    let mut digest = Sha256::new();
    let mut send = async |count: usize| {
        for _ in 0..count {
            let chunk: Vec<u8> = std::iter::repeat_with(rand::random).take(MIB).collect();
            digest.update(&chunk);
            sender.send(chunk.into()).await.expect("it is being uploaded");
        }
    };
    send(64).await;
    // Two parts of 8 MiB may be on their way, and one being filled.
    let stored = || in_store(&server).iter().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum::<u64>();
    eventually("most of it is in the store before the rest comes", async || (stored() > 32 * MIB as u64).then_some(())).await;
    send(16).await;
    drop(sender);
    let file: Value = uploading.await.expect("no panic").expect("an answer").json().await.expect("JSON");
    assert_eq!((&file["size"], &file["digest"]), (&json!(80 * MIB), &json!(hex::encode(digest.finalize()))));

    // It is read from the store as it is taken: what is cut off there meanwhile is missed.
    let mut response = admin.request(Method::GET, &at(&file)).send().await.expect("an answer");
    response.chunk().await.expect("it begins").expect("some of it");
    let object = std::fs::File::options().write(true).open(&in_store(&server)[0]).expect("the object");
    object.set_len(100).expect("cut off");
    let all = async {
        while response.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    let ended = tokio::time::timeout(std::time::Duration::from_mins(1), all).await.expect("it ends");
    assert!(ended.is_err(), "and that is no complete answer");
}

/// Asks for a part of a file.
async fn part_of(api: &Api, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(api.request(Method::GET, path), |request, (name, value)| request.header(*name, *value));
    api.send(request).await
}

/// Numbers that tell where in a file they stand; three pieces and a bit.
fn numbers() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_be_bytes).collect()
}

/// Every kind of part, at the borders of pieces and within them.
async fn hands_out_parts(api: &Api) {
    const PIECE: usize = 256 * 1024;
    let content = numbers();
    let path = at(&upload(api, "numbers.bin", content.clone()).await);
    let last = content.len() - 1;
    for (first, end) in [(0, 0), (PIECE - 1, PIECE), (PIECE, 2 * PIECE - 1), (1, last), (3 * PIECE + 7, last), (last, last)] {
        let answer = part_of(api, &path, &[("range", &format!("bytes={first}-{end}"))]).await.expect(206);
        assert!(answer.bytes == content[first..=end], "{first}-{end}");
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes {first}-{end}/{}", content.len())));
        assert_eq!(answer.header("content-length"), Some(&*(end - first + 1).to_string()));
    }
    assert_eq!(part_of(api, &path, &[("range", "bytes=-5")]).await.expect(206).bytes, content[content.len() - 5..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_file_is_handed_out_without_the_rest_being_read() {
    let (server, admin) = started().await;
    hands_out_parts(&admin).await;
    let content = numbers();
    let path = format!("{STORAGE}/{}", admin.get(STORAGE).await.expect(200).text("/data/0/file_id"));
    let whole = admin.get(&path).await.expect(200);
    assert_eq!((whole.header("accept-ranges"), whole.bytes == content), (Some("bytes"), true));
    let tag = whole.header("etag").expect("a tag").to_owned();
    // A download that broke off goes on where it was, if the file is still the same.
    let rest = part_of(&admin, &path, &[("range", "bytes=700000-"), ("if-range", &tag)]).await.expect(206);
    assert!([&content[..700_000], &rest.bytes].concat() == content);
    part_of(&admin, &path, &[("range", "bytes=700000-"), ("if-range", "\"another\"")]).await.expect(200);
    let beyond = part_of(&admin, &path, &[("range", "bytes=800000-")]).await.expect(416);
    assert_eq!((beyond.code(), beyond.header("content-range")), ("range_not_satisfiable".to_owned(), Some("bytes */800000")));
    for unknown in ["bytes=5-2", "lines=1-2", "bytes=0-1,5-6"] {
        part_of(&admin, &path, &[("range", unknown)]).await.expect(200);
    }
    let looked = admin.send(admin.request(Method::HEAD, &path).header("range", "bytes=0-1")).await.expect(200);
    assert_eq!((looked.header("content-length"), looked.header("accept-ranges")), (Some("800000"), Some("bytes")));
    // What is good for once is handed out as a whole.
    let url = admin.post(&format!("{path}/download-url"), json!({})).await.expect(201).text("/url");
    let once = part_of(&server.anonymous(), &url, &[("range", "bytes=0-1")]).await.expect(200);
    assert_eq!((once.bytes.len(), once.header("accept-ranges")), (content.len(), Some("none")));
    // The last piece is damaged: whoever does not ask for it does not meet it.
    let object = &in_store(&server)[0];
    let mut sealed = std::fs::read(object).expect("readable");
    *sealed.last_mut().expect("some") ^= 1;
    std::fs::write(object, sealed).expect("written");
    part_of(&admin, &path, &[("range", "bytes=0-9")]).await.expect(206);
    part_of(&admin, &path, &[("range", "bytes=-1")]).await.expect(500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_stores_files_of_its_app_from_within_its_jail() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({ actions: {
        save: async ({ text }, ctx) => [await ctx.uploadFile(text, 'a.txt', 'text/plain'),
            await uploadFile(new Uint8Array([1, 2, 3]), 'b.bin')],
        empty: (_, ctx) => ctx.uploadFile('', 'a.txt'),
        elsewhere: async ({ url }) => (await fetch(url)).status,
    } })";
    let mut manifest = integration("crm", &["save", "empty", "elsewhere"]);
    manifest["egress"] = json!([]);
    server.deploy(&admin, &manifest, backend).await;
    let saved = admin.call("crm", "save", json!({ "text": "grüße" })).await.expect(200).json;
    for (id, name, content) in [(&saved[0], "a.txt", "grüße".as_bytes()), (&saved[1], "b.bin", &[1, 2, 3])] {
        let file = admin.get(&format!("{STORAGE}/{}", id.as_str().expect("an id"))).await.expect(200);
        assert_eq!(file.bytes, content, "{name}");
    }
    let me = admin.get("/api/v1/auth/me").await.expect(200).text("/id");
    let listed = admin.get(STORAGE).await.expect(200);
    assert_eq!((listed.value("/data/1/uploaded_by"), listed.value("/data/1/name")), (json!(me), json!("a.txt")));
    let refused = admin.call("crm", "empty", json!({})).await;
    assert!(refused.text("/error").contains("empty"), "{refused:?}");
    // The way to its own server opens nothing else on this machine.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", closed.local_addr().expect("an address"));
    admin.call("crm", "elsewhere", json!({ "url": url })).await.expect(502);
    assert_eq!(admin.runs("crm", 3).await.iter().filter(|run| run["hosts"] != json!([])).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_lie_in_a_bucket_of_something_that_speaks_s3() {
    let s3 = S3::start().await;
    let server = TestServer::start_with_file_and(&s3.settings("weft", "some/place"), s3.arguments()).await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let small = upload(&admin, "small.txt", "small").await;
    // More than goes to the store at once.
    let content: Vec<u8> = (0..20_000_000_u32).map(|index| u8::try_from(index % 253).unwrap_or(0)).collect();
    let large = upload(&admin, "large.bin", content.clone()).await;
    assert_eq!(admin.get(&at(&small)).await.expect(200).bytes, b"small");
    assert!(admin.get(&at(&large)).await.expect(200).bytes == content, "the same bytes");
    let keys = s3.keys("weft").await;
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.starts_with("some/place/default/")), "{keys:?}");
    hands_out_parts(&admin).await;
    let parts = admin.get(STORAGE).await.expect(200).text("/data/0/file_id");
    admin.delete(&format!("{STORAGE}/{parts}")).await.expect(200);
    admin.delete(&at(&large)).await.expect(200);
    eventually("it is gone from the bucket", async || (s3.keys("weft").await.len() == 1).then_some(())).await;
    // Its app goes while the store is away; what is left is removed when it is back.
    s3.pause(true).await;
    let refused = send(&admin, &format!("{STORAGE}/upload"), part("a", "text/plain", "a")).await;
    assert_eq!(refused.expect(503).code(), "unavailable");
    admin.delete("/api/v1/apps/crm").await.expect(200);
    s3.pause(false).await;
    eventually("nothing is left", async || s3.keys("weft").await.is_empty().then_some(())).await;
}
