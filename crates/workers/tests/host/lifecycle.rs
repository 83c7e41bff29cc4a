//! Starting, replacing, crashing and stopping.

use crate::rig::{APP, LONG, Rig, TestResult, Watch};
use serde_json::{Value, json};
use std::time::Duration;
use weft_workers::{CallError, Level, StartError, Status};

/// Answers with its version once the file `go` exists.
fn version(name: &str) -> String {
    format!(
        r#"serve({{
          rpc: {{
            version: () => "{name}",
            linger: async () => {{
              console.log("lingering");
              while (!(await Bun.file("go").exists())) await Bun.sleep(5);
              return "{name}";
            }},
          }},
          onShutdown: () => Bun.write("finished-{name}", ""),
        }});"#
    )
}

/// Answers until it is told to die; with a file `broken` beside it, it dies right after it was ready.
const MORTAL: &str = r#"
if (await Bun.file("broken").exists()) setTimeout(() => process.exit(4), 1);
serve({ rpc: {
  pid: () => process.pid,
  hang: () => { console.log("hanging"); return new Promise(() => {}); },
  exit: (code) => process.exit(code),
  kill: () => { process.kill(process.pid, "SIGKILL"); return new Promise(() => {}); },
} });
"#;

fn died(outcome: Result<Value, CallError>) -> Result<String, String> {
    match outcome {
        Err(CallError::Died(death)) => Ok(death.reason.to_string()),
        other => Err(format!("the call did not die: {other:?}")),
    }
}

async fn start_error(rig: &Rig, source: &str) -> TestResult<StartError> {
    rig.host.start(rig.spec(source)?).await.err().ok_or_else(|| "the start succeeded".into())
}

#[tokio::test]
async fn a_crash_fails_the_calls_in_flight_and_the_next_one_finds_a_new_process() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(MORTAL).await?;
    let before = rig.call("pid", Value::Null).await?;
    let exit = async {
        log.line("hanging").await?;
        died(rig.call("exit", json!(3)).await).map_err(Into::into)
    };
    let (hanging, exit): (_, TestResult<String>) = tokio::join!(rig.call("hang", Value::Null), exit);
    assert_eq!(died(hanging)?, "it exited with code 3");
    assert_eq!(exit?, "it exited with code 3");
    assert_ne!(rig.call("pid", Value::Null).await?, before);
    assert_eq!(died(rig.call("kill", Value::Null).await)?, "it was killed by signal 9 (SIGKILL)");
    rig.call("pid", Value::Null).await?;
    assert_eq!(
        log.system(),
        [
            "worker crashed: it exited with code 3",
            "restarting worker (attempt 1)",
            "worker started",
            "worker crashed: it was killed by signal 9 (SIGKILL)",
            "restarting worker (attempt 2)",
            "worker started",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_crash_loop_ends_and_the_next_call_tries_once_more() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.write("broken", "")?;
    rig.deploy(MORTAL).await?;
    let last = log.line("crash loop: 5 deaths within").await?;
    assert_eq!(last.level, Level::System);
    assert_eq!(rig.host.status(APP), Some(Status::Crashed));
    std::fs::remove_file(rig.folder.path().join("broken"))?;
    rig.call("pid", Value::Null).await?;
    assert_eq!(rig.host.status(APP), Some(Status::Running));
    Ok(())
}

#[tokio::test]
async fn an_app_that_never_came_up_is_tried_again_by_the_next_call() -> TestResult {
    let rig = Rig::new()?;
    start_error(&rig, "throw new Error('not yet')").await?;
    assert_eq!(rig.host.status(APP), Some(Status::Crashed));
    let refused = rig.call("version", Value::Null).await;
    assert!(matches!(&refused, Err(CallError::DoesNotStart(death)) if death.reason.contains("not yet")), "{refused:?}");
    rig.write("index.ts", &version("one"))?;
    assert_eq!(rig.call("version", Value::Null).await?, json!("one"));
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_says_why() -> TestResult {
    let rig = Rig::with(|settings| settings.start_timeout = Duration::from_secs(3))?;
    let error = start_error(&rig, "const x = ;").await?;
    assert!(matches!(&error, StartError::Fatal { message } if message.contains("index.ts:1")), "{error}");
    let error = start_error(&rig, "throw new Error('no luck')").await?;
    assert!(matches!(&error, StartError::Fatal { message } if message.contains("no luck")), "{error}");
    let error = start_error(&rig, "import 'no-such-package-of-ours'").await?;
    assert!(matches!(&error, StartError::Fatal { message } if message.contains("no-such-package")), "{error}");
    let error = start_error(&rig, "process.stderr.write('giving up\\n'); process.exit(7)").await?;
    assert_eq!(error.to_string(), "the process ended before it was ready: it exited with code 7\n  giving up");
    let error = start_error(&rig, "setInterval(() => {}, 1000); await new Promise(() => {})").await?;
    assert!(matches!(error, StartError::Timeout { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_missing_runtime_is_named() -> TestResult {
    let rig = Rig::with(|settings| settings.bun = "/nowhere/bun".into())?;
    let error = start_error(&rig, "serve({})").await?;
    assert!(error.to_string().starts_with("cannot run `/nowhere/bun`"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_version_that_does_not_come_up_replaces_nothing() -> TestResult {
    let rig = Rig::new()?;
    rig.deploy(&version("one")).await?;
    start_error(&rig, "throw new Error('no luck')").await?;
    assert_eq!(rig.host.status(APP), Some(Status::Running));
    assert_eq!(rig.call("version", Value::Null).await?, json!("one"));
    Ok(())
}

#[tokio::test]
async fn a_new_version_takes_the_new_calls_and_the_old_one_finishes_its_own() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(&version("one")).await?;
    let replace = async {
        log.line("lingering").await?;
        rig.deploy(&version("two")).await?;
        let answered_by = rig.call("version", Value::Null).await?;
        rig.write("go", "")?;
        TestResult::Ok(answered_by)
    };
    let (old, new) = tokio::join!(rig.call("linger", Value::Null), replace);
    assert_eq!((old?, new?), (json!("one"), json!("two")));
    log.line("replaced worker stopped").await?;
    assert!(rig.folder.path().join("finished-one").exists());
    Ok(())
}

#[tokio::test]
async fn starting_what_runs_already_changes_nothing() -> TestResult {
    let rig = Rig::new()?;
    rig.host.ensure_started(rig.spec(&version("one"))?).await?;
    rig.host.ensure_started(rig.spec(&version("two"))?).await?;
    assert_eq!(rig.call("version", Value::Null).await?, json!("one"));
    Ok(())
}

#[tokio::test]
async fn calls_that_arrive_during_a_start_wait_for_it() -> TestResult {
    let rig = Rig::new()?;
    let early = async {
        while rig.host.status(APP).is_none() {
            tokio::task::yield_now().await;
        }
        rig.call("version", Value::Null).await
    };
    let source = version("one");
    let (started, answer) = tokio::join!(rig.deploy(&source), early);
    started?;
    assert_eq!(answer?, json!("one"));
    Ok(())
}

#[tokio::test]
async fn a_stop_lets_calls_finish_and_refuses_new_ones() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(&version("one")).await?;
    let meanwhile = async {
        while rig.host.status(APP) != Some(Status::Stopping) {
            tokio::task::yield_now().await;
        }
        let refused = rig.call("version", Value::Null).await;
        rig.write("go", "")?;
        TestResult::Ok(refused)
    };
    let stop = async {
        log.line("lingering").await?;
        rig.host.stop(APP).await;
        TestResult::Ok(())
    };
    let (old, refused, stopped) = tokio::join!(rig.call("linger", Value::Null), meanwhile, stop);
    stopped?;
    assert_eq!(old?, json!("one"));
    assert!(matches!(refused?, Err(CallError::NotRunning { .. })));
    assert!(rig.folder.path().join("finished-one").exists());
    assert_eq!(rig.host.status(APP), Some(Status::Stopped));
    assert!(matches!(rig.call("version", Value::Null).await, Err(CallError::NotRunning { .. })));
    Ok(())
}

#[tokio::test]
async fn a_stop_interrupts_a_start_that_does_not_get_ready() -> TestResult {
    let rig = Rig::new()?;
    let spec = rig.spec("console.log('thinking'); setInterval(() => {}, 1000); await new Promise(() => {})")?;
    let mut log = Watch::new(&rig);
    let stop = async {
        log.line("thinking").await?;
        rig.host.stop_all().await;
        TestResult::Ok(())
    };
    let (started, stopped) = tokio::join!(rig.host.start(spec), stop);
    stopped?;
    assert!(matches!(started, Err(StartError::Stopped)), "{started:?}");
    assert_eq!(rig.host.status(APP), Some(Status::Stopped));
    Ok(())
}

#[tokio::test]
async fn an_app_that_was_never_started_is_not_running() -> TestResult {
    let rig = Rig::new()?;
    let outcome = rig.call("anything", Value::Null).await;
    assert!(matches!(outcome, Err(CallError::NotRunning { .. })));
    assert_eq!(rig.host.status(APP), None);
    Ok(())
}

#[tokio::test]
async fn a_call_that_waits_in_vain_for_a_restart_is_told_what_it_waits_for() -> TestResult {
    let rig = Rig::with(|settings| settings.restarts.pauses = vec![LONG])?;
    rig.deploy("serve({ rpc: { exit: () => process.exit(7), echo: (params) => params } });").await?;
    assert!(matches!(rig.call("exit", Value::Null).await, Err(CallError::Died(_))));
    let outcome = rig.call_as("ann", "echo", Value::Null, Duration::from_millis(50)).await;
    let Err(error @ CallError::NotReady { .. }) = outcome else { return Err(format!("{outcome:?}").into()) };
    assert!(error.to_string().contains("it exited with code 7"), "{error}");
    Ok(())
}
