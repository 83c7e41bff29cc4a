//! Connections that are refused, and what the keeper hears of them.

use std::net::TcpListener;

use serde_json::json;

use crate::rig::{Book, Rig, TestResult};

/// Asks a list of URLs and says what came of each.
const ASK: &str = r"
const codes = [];
for (const url of process.argv.slice(2)) codes.push(await attempt(async () => (await fetch(url)).status));
say(codes);
";

fn nobody_came(server: &TcpListener) -> TestResult<bool> {
    server.set_nonblocking(true)?;
    Ok(server.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock))
}

#[tokio::test]
async fn a_host_that_is_not_in_the_list_is_refused_by_name() -> TestResult {
    let rig = Rig::new()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let said = rig.say(ASK, &[&format!("http://evil.example:{port}/")]).await?;
    assert_eq!(said, json!(["ECONNREFUSED"]));
    assert_eq!(rig.book.entries(), [format!("refused evil.example:{port} NotAllowed")]);
    assert!(nobody_came(&server)?);
    Ok(())
}

/// Whoever writes an inward address: the list allows all of them, so that only the address itself keeps them out.
#[tokio::test]
async fn inward_addresses_are_refused_however_they_are_written() -> TestResult {
    let book = Book::allowing(&["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "0.0.0.0"]);
    let rig = Rig::with(book, &[])?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "private.test",
    ];
    let urls = hosts.map(|host| format!("http://{host}:{port}/"));
    let said = rig.say(ASK, &urls.each_ref().map(String::as_str)).await?;
    let through: Vec<_> = said.as_array().ok_or("no list")?.iter().filter(|code| !code.is_string()).collect();
    assert!(through.is_empty(), "{said}");
    let entries = rig.book.entries();
    for host in ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "10.0.0.1", "private.test"] {
        assert!(entries.contains(&format!("refused {host}:{port} Inward")), "{host} is not among {entries:?}");
    }
    assert!(!entries.iter().any(|entry| entry.starts_with("connected")), "{entries:?}");
    assert!(nobody_came(&server)?);
    Ok(())
}

/// The name is looked up again for a new program, which gets another address: it is judged again, too.
#[tokio::test]
async fn a_name_that_moves_inward_is_refused() -> TestResult {
    let rig = Rig::new()?;
    let first = TcpListener::bind("127.0.0.1:0")?;
    let port = first.local_addr()?.port();
    let second = TcpListener::bind(("127.0.0.2", port))?;
    let program = r#"
        import net from "node:net";
        const open = () => new Promise((done, fail) => { const s = net.connect(Number(process.argv[2]), "rebinding.test");
          s.on("connect", () => { s.destroy(); done("connected"); }).on("error", fail); });
        say(await attempt(open));
    "#;
    assert_eq!(rig.say(program, &[&port.to_string()]).await?, json!("connected"));
    assert_ne!(rig.say(program, &[&port.to_string()]).await?, json!("connected"));
    assert!(nobody_came(&second)?);
    let expected = [format!("connected rebinding.test:{port}"), format!("refused rebinding.test:{port} Inward")];
    assert_eq!(rig.book.entries(), expected);
    Ok(())
}

#[tokio::test]
async fn an_inward_address_among_others_is_left_out() -> TestResult {
    let rig = Rig::new()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let program = r#"
        import net from "node:net";
        say(await attempt(() => new Promise((done, fail) => { const s = net.connect(Number(process.argv[2]), "mixed.test");
          s.on("connect", () => { s.destroy(); done("connected"); }).on("error", fail); })));
    "#;
    assert_eq!(rig.say(program, &[&port.to_string()]).await?, json!("connected"));
    Ok(())
}

#[tokio::test]
async fn other_ways_out_are_closed() -> TestResult {
    let rig = Rig::new()?;
    let path = rig.path("other/socket");
    let _server = std::os::unix::net::UnixListener::bind(&path)?;
    let said = rig
        .say(
            r#"
            import dgram from "node:dgram";
            import net from "node:net";
            const open = (options: any) => attempt(() => new Promise((done, fail) => { net.connect(options).on("connect", () => done("connected")).on("error", fail); }));
            const listen = (options: any) => attempt(() => new Promise((done, fail) => { net.createServer().on("error", fail).listen(options, () => done("listening")); }));
            const send = (port: number, address: string) => attempt(() => new Promise((done, fail) => {
              const socket = dgram.createSocket("udp4").on("error", fail);
              socket.send("secret", port, address, (error) => error ? fail(error) : done("sent"));
            }));
            say({
              local: await open({ path: process.argv[2] }),
              abstract: await open({ path: "\0name" }),
              unknownStandIn: await open({ host: "198.19.1.1", port: 80 }),
              listen: await listen({ port: 0, host: "127.0.0.1" }),
              listenLocal: await listen({ path: `${process.env.TMPDIR}/s` }),
              serve: await attempt(() => { Bun.serve({ port: 0, fetch: () => new Response() }); return "serving"; }),
              datagram: await send(9, "127.0.0.1"),
              dnsElsewhere: await send(53, "1.1.1.1"),
            });
            process.exit();
            "#,
            &[&path.to_string_lossy()],
        )
        .await?;
    let open: Vec<_> = said
        .as_object()
        .ok_or("not an object")?
        .iter()
        .filter(|(_, code)| matches!(code.as_str(), None | Some("connected" | "listening" | "serving" | "sent")))
        .collect();
    assert!(open.is_empty(), "{said}");
    let entries = rig.book.entries();
    assert!(entries.contains(&format!("refused {}:0 LocalSocket", path.display())), "{entries:?}");
    assert!(entries.contains(&"refused 198.19.1.1:80 Unknown".to_owned()), "{entries:?}");
    Ok(())
}

#[tokio::test]
async fn without_its_broker_a_program_has_no_network() -> TestResult {
    let rig = Rig::new()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://api.test:{}/", server.local_addr()?.port());
    let program = r"for await (const line of console) { say(await attempt(() => fetch(line))); break; }";
    let mut jailed = rig.start(program, &[]).await?;
    drop(jailed.broker.take());
    let mut stdin = jailed.child.stdin.take().ok_or("no input")?;
    tokio::io::AsyncWriteExt::write_all(&mut stdin, format!("{url}\n").as_bytes()).await?;
    let output = tokio::time::timeout(crate::rig::LONG, jailed.child.wait_with_output()).await??;
    assert!(String::from_utf8_lossy(&output.stdout).starts_with('"'), "{output:?}");
    assert!(nobody_came(&server)?);
    Ok(())
}
