//! What a backend cannot do: act for a call that is over, flood or break the stream, see the server's environment.

use crate::rig::{APP, LONG, Rig, TestResult, Watch};
use serde_json::{Value, json};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};
use weft_workers::{Account, CallError, Level, WorkerSpec};

/// A backend that reads its own stdin as well, and so knows the ids of all its calls.
const FORGER: &str = r#"
const ids = [], answers = new Map();
process.stdin.on("data", (chunk) => {
  for (const line of String(chunk).split("\n").filter(Boolean)) {
    const message = JSON.parse(line);
    if (message.type === "rpc") ids.push(message.id);
    if (message.type === "self_action_result") answers.get(message.id)?.(message.error?.code ?? message.result.caller);
  }
});
let count = 0;
const forge = (call) => new Promise((resolve) => {
  const id = `forged_${count++}`;
  answers.set(id, resolve);
  process.stdout.write(JSON.stringify({ type: "self_action", id, call, action: "whoami", params: {} }) + "\n");
});
serve({ rpc: {
  first: () => null,
  invented: () => forge("AAAAAAAAAAAAAAAAAAAAAA"),
  absent: () => forge(undefined),
  finished: () => forge(ids[0]),
  own: () => forge(ids.at(-1)),
} });
"#;

#[tokio::test]
async fn only_a_call_in_flight_proves_on_whose_behalf_a_backend_acts() -> TestResult {
    let rig = Rig::new()?;
    rig.deploy(FORGER).await?;
    rig.call("first", Value::Null).await?;
    for method in ["invented", "absent", "finished"] {
        assert_eq!(rig.call(method, Value::Null).await?, json!("call_over"), "{method}");
    }
    assert_eq!(rig.call("own", Value::Null).await?, json!("ann"));
    Ok(())
}

#[tokio::test]
async fn a_call_whose_caller_left_gives_no_rights_any_more() -> TestResult {
    let rig = Arc::new(
        Rig::serving(
            r#"
            linger: async (_, caller, ctx) => {
              console.log("lingering");
              await new Promise((resolve) => { globalThis.release = resolve; });
              await ctx.selfAction("whoami").catch((error) => globalThis.told(error.code));
            },
            release: () => new Promise((resolve) => { globalThis.told = resolve; globalThis.release(); }),
            "#,
        )
        .await?,
    );
    let mut log = Watch::new(&rig);
    let caller = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.call("linger", Value::Null).await }
    });
    log.line("lingering").await?;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(rig.call("release", Value::Null).await?, json!("call_over"));
    Ok(())
}

#[tokio::test]
async fn whatever_a_backend_says_reaches_the_log_of_its_app() -> TestResult {
    let rig = Rig::serving(
        r#"
        talk: () => {
          console.warn("careful");
          emit("ticket.closed", { id: 4 });
          process.stdout.write("rubbish\n{\"type\":\"surprise\"}\n");
          process.stderr.write("stack trace\n");
          console.log("é".repeat(8000));
        },
        "#,
    )
    .await?;
    let mut log = Watch::new(&rig);
    let mut errors = Watch::new(&rig);
    rig.call("talk", Value::Null).await?;
    assert_eq!(log.line("careful").await?.level, Level::Warn);
    let event = log.line("ticket.closed").await?;
    assert_eq!((event.level, &*event.message), (Level::Event, r#"ticket.closed: {"id":4}"#));
    assert_eq!(log.line("rubbish").await?.level, Level::Stdout);
    assert_eq!(log.line("{\"type\":\"surprise\"}").await?.level, Level::Stdout);
    assert_eq!(log.line("éé").await?.message.len(), 8192);
    // stderr is a stream of its own, so its place among the others is open.
    assert_eq!(errors.line("stack trace").await?.level, Level::Stderr);
    assert!(rig.platform.attributed().contains(&("ann".to_owned(), "careful".to_owned())));
    Ok(())
}

#[tokio::test]
async fn an_endless_line_is_skipped_and_the_stream_goes_on() -> TestResult {
    let rig = Rig::serving(
        r#"flood: () => { process.stdout.write("x".repeat(3 << 20) + "\n"); return "still here"; }, echo: (params) => params"#,
    )
    .await?;
    let mut log = Watch::new(&rig);
    assert_eq!(rig.call("flood", Value::Null).await?, json!("still here"));
    assert_eq!(log.line("dropped a message of more than 1 MiB").await?.level, Level::Warn);
    assert_eq!(rig.call("echo", json!(1)).await?, json!(1));
    Ok(())
}

#[tokio::test]
async fn a_process_sees_only_the_environment_it_was_granted() -> TestResult {
    let rig = Rig::serving("env: (_, __, ctx) => [process.env, process.cwd(), ctx.credentials]").await?;
    let folder = rig.folder.path().to_string_lossy();
    let expected = json!([
        {
            "GREETING": "hello",
            "HOME": folder,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "ROOTCX_APP_ID": APP,
            "ROOTCX_RUNTIME_URL": "http://127.0.0.1:9",
            "TMPDIR": folder,
            "WEFT_APP_ID": APP,
            "WEFT_RUNTIME_URL": "http://127.0.0.1:9",
        },
        folder,
        { "TOKEN": "t-1" },
    ]);
    assert_eq!(rig.call("env", Value::Null).await?, expected);
    Ok(())
}

/// Needs root: nobody else can change to another account.
#[tokio::test]
async fn a_server_that_is_root_runs_its_workers_under_their_own_account() -> TestResult {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let rig = Rig::new()?;
    std::fs::set_permissions(rig.folder.path(), Permissions::from_mode(0o755))?;
    let backend = "serve({ rpc: { ids: () => [process.getuid(), process.getgid(), process.getgroups()] } });";
    let account = Some(Account { uid: 65534, gid: 65534 });
    rig.host.start(WorkerSpec { account, ..rig.spec(backend)? }).await?;
    assert_eq!(rig.call("ids", Value::Null).await?, json!([65534, 65534, []]));
    Ok(())
}

#[tokio::test]
async fn nothing_a_process_started_outlives_it() -> TestResult {
    let rig = Rig::with(|settings| settings.stop_timeout = Duration::from_millis(500))?;
    rig.deploy(r#"serve({ rpc: { spawn: () => Bun.spawn(["sleep", "600"]).pid, hang: () => new Promise(() => {}) } });"#).await?;
    let child = rig.call("spawn", Value::Null).await?;
    let (hanging, ()) = tokio::join!(rig.call("hang", Value::Null), rig.host.stop(APP));
    assert!(matches!(hanging, Err(CallError::Died(_))), "{hanging:?}");
    tokio::time::timeout(LONG, async {
        while is_running(&child) {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    Ok(())
}

/// A killed process may remain as a zombie until its new parent looks after it.
fn is_running(pid: &Value) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
