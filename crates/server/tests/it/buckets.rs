//! Buckets: folders and files of a tenant that belong to no app, who may do what with them, and what they take.

use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::eventually;

const BUCKETS: &str = "/api/v1/storage/buckets";
const OBJECTS: &str = "/api/v1/storage/objects";

async fn started() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    (server, admin)
}

fn file(name: &str, kind: &str, content: impl Into<Vec<u8>>) -> Form {
    let part = Part::bytes(content.into()).file_name(name.to_owned()).mime_str(kind).expect("a type");
    Form::new().part("file", part)
}

async fn send(api: &Api, bucket: &str, form: Form) -> Answer {
    api.send(api.request(Method::POST, &format!("{OBJECTS}/{bucket}/upload")).multipart(form)).await
}

async fn upload(api: &Api, bucket: &str, name: &str, parent: &str) -> String {
    let form = file(name, "text/plain", format!("this is {name}")).text("parent_id", parent.to_owned());
    send(api, bucket, form).await.expect(201).text("/id")
}

async fn folder(api: &Api, name: &str, parent: &str) -> String {
    let body = json!({ "name": name, "parent_id": parent });
    api.post(&format!("{OBJECTS}/default"), body).await.expect(201).text("/id")
}

async fn names(api: &Api, query: &str) -> Vec<Value> {
    let listed = api.get(&format!("{OBJECTS}/default{query}")).await.expect(200).json;
    listed.as_array().expect("a list").iter().map(|object| object["name"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_lie_in_folders_are_moved_and_go_with_them() {
    let (server, admin) = started().await;
    let at = |id: &str| format!("{OBJECTS}/default/{id}");
    let (reports, old) = (folder(&admin, "reports", "").await, folder(&admin, "an archive", "null").await);
    let year = folder(&admin, "2026", &reports).await;
    let file = upload(&admin, "default", "march.txt", &year).await;
    upload(&admin, "default", "a.txt", "").await;
    assert_eq!(names(&admin, "").await, ["an archive", "reports", "a.txt"], "folders first, then by name");
    assert_eq!(names(&admin, &format!("?limit=1&after={old}")).await, ["reports"]);
    assert_eq!(names(&admin, &format!("?parent_id={year}")).await, ["march.txt"]);
    admin.get(&format!("{OBJECTS}/nowhere")).await.expect(404);
    admin.get(&format!("{OBJECTS}/default?parent_id=x")).await.expect(400);

    let answer = admin.get(&at(&file)).await.expect(200);
    assert_eq!((answer.bytes.as_slice(), answer.header("content-type")), (&b"this is march.txt"[..], Some("text/plain")));
    assert_eq!(answer.header("content-security-policy"), Some("sandbox; default-src 'none'"));
    let part = admin.send(admin.request(Method::GET, &at(&file)).header("range", "bytes=8-12")).await.expect(206);
    assert_eq!(part.bytes, b"march");
    admin.get(&at(&year)).await.expect(400);

    let way = admin.get(&format!("{}/ancestors", at(&file))).await.expect(200).json;
    let way: Vec<_> = way.as_array().expect("a list").iter().map(|step| step["name"].clone()).collect();
    assert_eq!(way, ["reports", "2026", "march.txt"]);
    let moved = json!({ "name": "old.txt", "parent_id": old });
    assert_eq!(admin.patch(&at(&file), moved).await.expect(200).json, json!({ "id": file, "updated": true }));
    let named = admin.get(&at(&file)).await.expect(200);
    assert!(named.header("content-disposition").is_some_and(|told| told.contains("old.txt")));
    for (id, into) in [(&reports, &year), (&reports, &reports)] {
        let refused = admin.patch(&at(id), json!({ "parent_id": into })).await.expect(400);
        assert!(refused.text("/error").contains("into itself"), "{refused:?}");
    }
    admin.patch(&at(&year), json!({ "parent_id": file })).await.expect(404);
    admin.patch(&at(&year), json!({ "name": "an archive", "parent_id": "" })).await.expect(400);

    // A folder goes with what lies in it, and so does what the files held.
    let kept = async || server.database.count("files").await;
    assert_eq!(kept().await, 2);
    assert_eq!(admin.delete(&at(&old)).await.expect(200).json, json!({ "deleted": old }));
    admin.get(&at(&file)).await.expect(404);
    assert_eq!(kept().await, 1);
    eventually("its content is gone", async || (server.database.count("file_remains").await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_takes_what_it_was_made_for_and_goes_when_it_is_empty() {
    let (server, admin) = started().await;
    let pictures = json!({ "name": "pictures", "max_file_size": 20, "allowed_types": ["image/*", "text/csv"] });
    assert_eq!(admin.post(BUCKETS, pictures.clone()).await.expect(201).json, json!({ "name": "pictures" }));
    assert!(admin.post(BUCKETS, pictures).await.expect(400).text("/error").contains("already exists"));
    for wrong in
        [json!({ "name": "a b" }), json!({ "name": "a", "max_file_size": 0 }), json!({ "name": "a", "allowed_types": ["x"] })]
    {
        admin.post(BUCKETS, wrong).await.expect(400);
    }
    let png = b"\x89PNG\r\n\x1a\n0000";
    let stored = send(&admin, "pictures", file("a.png", "text/plain", png)).await.expect(201);
    assert_eq!((stored.value("/content_type"), stored.value("/size")), (json!("image/png"), json!(12)));
    // What the first bytes show counts, and not what was said.
    let page = send(&admin, "pictures", file("b.png", "image/png", "<html></html>")).await.expect(400);
    assert!(page.text("/error").contains("text/html"), "{page:?}");
    send(&admin, "pictures", file("c.csv", "text/csv", "a,b\n1,2\n3,4\n5,6\n7,8\n9,0")).await.expect(413);
    let refused = send(&admin, "pictures", file("a.png", "image/png", png)).await.expect(400);
    assert!(refused.text("/error").contains("'a.png' already exists"), "{refused:?}");
    let two = file("d.png", "image/png", png).part("more", Part::bytes(png.to_vec()).file_name("e.png"));
    send(&admin, "pictures", two).await.expect(400);
    send(&admin, "pictures", file("e.png", "image/png", "")).await.expect(400);
    send(&admin, "pictures", Form::new().text("parent_id", "")).await.expect(400);
    send(&admin, "nowhere", file("a", "text/plain", "a")).await.expect(404);
    send(&admin, "pictures", file("f.png", "image/png", png).text("parent_id", "x")).await.expect(400);
    assert_eq!(server.database.count("files").await, 1, "what was refused left nothing");

    let listed = admin.get(BUCKETS).await.expect(200).json;
    let listed: Vec<_> = listed.as_array().expect("a list").iter().map(|bucket| bucket["name"].clone()).collect();
    assert_eq!(listed, ["default", "pictures"]);
    admin.delete(&format!("{BUCKETS}/pictures")).await.expect(409);
    admin.delete(&format!("{OBJECTS}/pictures/{}", stored.text("/id"))).await.expect(200);
    assert_eq!(admin.delete(&format!("{BUCKETS}/pictures")).await.expect(200).json, json!({ "deleted": "pictures" }));
    admin.delete(&format!("{BUCKETS}/pictures")).await.expect(404);
    admin.delete(&format!("{BUCKETS}/default")).await.expect(400);
    admin.delete(&format!("{BUCKETS}/%00")).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_for_one_bucket_or_for_all_and_what_is_public_is_public_to_users() {
    let (server, admin) = started().await;
    for bucket in [json!({ "name": "notes" }), json!({ "name": "open", "public": true })] {
        admin.post(BUCKETS, bucket).await.expect(201);
    }
    let ann = server.user("ann").await;
    server.grant(&admin, &ann, &["storage:notes:read", "storage:notes:write"]).await;
    let note = upload(&ann, "notes", "note.txt", "").await;
    ann.get(&format!("{OBJECTS}/notes/{note}")).await.expect(200);
    let denied = ann.delete(&format!("{OBJECTS}/notes/{note}")).await.expect(403);
    assert!(denied.text("/error").contains("storage:delete"), "{denied:?}");
    for path in [BUCKETS.to_owned(), format!("{OBJECTS}/default"), format!("{OBJECTS}/open")] {
        ann.get(&path).await.expect(403);
    }
    let (open, secret) = (upload(&admin, "open", "a.txt", "").await, upload(&admin, "default", "b.txt", "").await);
    ann.get(&format!("{OBJECTS}/open/{open}")).await.expect(200);
    ann.get(&format!("{OBJECTS}/default/{secret}")).await.expect(403);
    // By the way of another bucket, and without a token, there is nothing.
    ann.get(&format!("{OBJECTS}/open/{secret}")).await.expect(404);
    server.anonymous().get(&format!("{OBJECTS}/open/{open}")).await.expect(401);
    let other = server.tenant(&admin, "acme", "boss").await;
    assert_eq!(other.get(BUCKETS).await.expect(200).value("/0/name"), "default", "every tenant has it");
    other.get(&format!("{OBJECTS}/default/{secret}")).await.expect(404);
    other.patch(&format!("{OBJECTS}/default/{secret}"), json!({ "name": "mine" })).await.expect(404);
    let into = json!({ "name": "mine", "parent_id": folder(&admin, "theirs", "").await });
    other.post(&format!("{OBJECTS}/default"), into).await.expect(404);
}
