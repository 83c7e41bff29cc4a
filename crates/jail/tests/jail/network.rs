//! Connections that are allowed: any library and protocol, under the name that was asked for.

use serde_json::json;

use crate::rig::{Outside, Rig, TestResult};

/// HTTP, HTTPS, WebSocket and plain TCP on ports of 127.0.0.1.
const SERVERS: &str = r#"
const fetch = (request: Request, server: any) =>
  server.upgrade(request) ? undefined : new Response(`hello ${new URL(request.url).hostname}`);
const websocket = { message: (socket: any, text: string) => { socket.send(`echo ${text}`); } };
const tls = { key: Bun.file("key.pem"), cert: Bun.file("app/ca.pem") };
const web = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch, websocket });
const secure = Bun.serve({ port: 0, hostname: "127.0.0.1", tls, fetch, websocket });
const echo = Bun.listen({ port: 0, hostname: "127.0.0.1", socket: { data: (socket, data) => { socket.write(data); } } });
console.log(JSON.stringify({ web: web.port, secure: secure.port, echo: echo.port }));
"#;

async fn servers(rig: &Rig) -> TestResult<Outside> {
    let made = rcgen::generate_simple_self_signed(["api.test".to_owned(), "localhost".to_owned()])?;
    std::fs::write(rig.path("key.pem"), made.signing_key.serialize_pem())?;
    std::fs::write(rig.path("app/ca.pem"), made.cert.pem())?;
    Outside::start(SERVERS, &rig.path("")).await
}

#[tokio::test]
async fn every_way_to_connect_works_and_is_reported_by_name() -> TestResult {
    let rig = Rig::new()?;
    let servers = servers(&rig).await?;
    let [web, secure, echo] = ["web", "secure", "echo"].map(|name| servers.port(name));
    let said = rig
        .say(
            r#"
            import http from "node:http";
            import https from "node:https";
            import net from "node:net";
            import tls from "node:tls";
            const [web, secure, echo] = process.argv.slice(2);
            const ask = (library: any, url: string) => new Promise((done, fail) => {
              library.get(url, (response: any) => response.setEncoding("utf8").on("data", done)).on("error", fail);
            });
            const exchange = (socket: any, text: string) => new Promise((done, fail) => {
              socket.on("error", fail).on("data", (data: Buffer) => { done(data.toString().split("\r\n")[0]); socket.destroy(); });
              socket.write(text);
            });
            const chat = (url: string) => new Promise((done, fail) => {
              const socket = new WebSocket(url);
              socket.onopen = () => socket.send("hi");
              socket.onerror = fail;
              socket.onmessage = (event) => { done(event.data); socket.close(); };
            });
            say({
              fetch: await attempt(async () => (await fetch(`http://api.test:${web}/`)).text()),
              secureFetch: await attempt(async () => (await fetch(`https://api.test:${secure}/`)).text()),
              http: await attempt(() => ask(http, `http://web.test:${web}/`)),
              https: await attempt(() => ask(https, `https://api.test:${secure}/`)),
              tcp: await attempt(() => exchange(net.connect(Number(echo), "echo.test"), "ping")),
              bun: await attempt(() => new Promise((done) => Bun.connect({ hostname: "bun.test", port: Number(echo), socket: {
                open: (socket) => { socket.write("pong"); }, data: (socket, data) => { done(data.toString()); socket.end(); } } }))),
              tls: await attempt(() => exchange(tls.connect({ port: Number(secure), host: "api.test", servername: "api.test" }),
                "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")),
              webSocket: await attempt(() => chat(`ws://chat.test:${web}/`)),
              secureWebSocket: await attempt(() => chat(`wss://api.test:${secure}/`)),
            });
            "#,
            &[&web, &secure, &echo],
        )
        .await?;
    assert_eq!(
        said,
        json!({
            "fetch": "hello api.test", "secureFetch": "hello api.test", "http": "hello web.test", "https": "hello api.test",
            "tcp": "ping", "bun": "pong", "tls": "HTTP/1.1 200 OK", "webSocket": "echo hi", "secureWebSocket": "echo hi",
        })
    );
    let entries = rig.book.entries();
    let contacts = [
        ("api.test", &web),
        ("api.test", &secure),
        ("web.test", &web),
        ("echo.test", &echo),
        ("bun.test", &echo),
        ("chat.test", &web),
    ];
    for (host, port) in contacts {
        assert!(entries.contains(&format!("connected {host}:{port}")), "{host} is not among {entries:?}");
    }
    assert!(!entries.iter().any(|entry| entry.starts_with("refused")), "{entries:?}");
    Ok(())
}

#[tokio::test]
async fn two_hundred_connections_at_once() -> TestResult {
    let rig = Rig::new()?;
    let servers = servers(&rig).await?;
    let said = rig
        .say(
            r"
            const one = (number: number) => attempt(async () => (await fetch(`http://host${number % 50}.test:${process.argv[2]}/`, { keepalive: false })).text());
            const texts = await Promise.all(Array.from({ length: 200 }, (_, number) => one(number)));
            say(texts.filter((text, number) => text !== `hello host${number % 50}.test`));
            ",
            &[&servers.port("web")],
        )
        .await?;
    assert_eq!(said, json!([]));
    assert_eq!(rig.book.entries().len(), 200);
    Ok(())
}

#[tokio::test]
async fn names_are_looked_up_in_every_way() -> TestResult {
    let rig = Rig::new()?;
    let said = rig
        .say(
            r#"
            import dns from "node:dns/promises";
            const { address, family } = await dns.lookup("api.test");
            say([address.startsWith("198.18."), family, (await dns.lookup("api.test")).address === address,
              await attempt(() => dns.lookup("absent.test"))]);
            "#,
            &[],
        )
        .await?;
    assert_eq!(said, json!([true, 4, true, "ENOTFOUND"]));
    Ok(())
}

#[tokio::test]
async fn a_host_that_does_not_answer_fails_as_it_would_outside() -> TestResult {
    let rig = Rig::new()?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let said = rig
        .say(
            r#"
            import net from "node:net";
            const [port] = process.argv.slice(2);
            say([await attempt(() => fetch(`http://api.test:${port}/`)), await attempt(() => fetch("http://absent.test/")),
              await attempt(() => new Promise((_, fail) => net.connect(Number(port), "api.test").on("error", fail)))]);
            "#,
            &[&free],
        )
        .await?;
    assert_eq!(said, json!(["ECONNREFUSED", "ENOTFOUND", "ECONNREFUSED"]));
    Ok(())
}
