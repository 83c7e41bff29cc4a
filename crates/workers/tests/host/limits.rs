//! What one worker may use, and that others notice nothing of one that wants more.

use crate::rig::{APP, LONG, Rig, TestResult, Watch};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use weft_workers::{CallError, DeathKind, Level, Limits, Status, WorkerSpec};

/// Calls of `linger` end when `release` is called.
const LINGER: &str = r#"serve({ rpc: {
  linger: (n) => new Promise((resolve) => { (globalThis.waiting ??= []).push(() => resolve(n)); console.log("lingering"); }),
  release: () => { for (const resolve of globalThis.waiting.splice(0)) resolve(); },
  echo: (params) => params,
  outer: (params, _, ctx) => ctx.selfAction("call_again", params),
  pid: () => process.pid,
} });"#;

fn limited(adjust: impl FnOnce(&mut Limits)) -> TestResult<Rig> {
    Rig::with(|settings| adjust(&mut settings.limits))
}

fn is_busy(outcome: &Result<Value, CallError>) -> bool {
    matches!(outcome, Err(CallError::Busy { app }) if &**app == APP)
}

#[tokio::test]
async fn a_call_beyond_the_queue_is_refused_at_once_and_those_in_it_are_answered() -> TestResult {
    let rig = Arc::new(limited(|limits| (limits.calls, limits.queue) = (2, 3))?);
    let mut log = Watch::new(&rig);
    rig.deploy("serve({ rpc: { wait: async (n) => { console.log('waiting'); while (!(await Bun.file('go').exists())) await Bun.sleep(2); return n; } } });").await?;
    let mut calls = JoinSet::new();
    for n in 0..12 {
        let rig = Arc::clone(&rig);
        calls.spawn(async move { (n, rig.call("wait", json!(n)).await) });
    }
    let mut refused = 0;
    while refused < 7 {
        let (_, outcome) = calls.join_next().await.ok_or("only refused calls end")??;
        assert!(is_busy(&outcome), "{outcome:?}");
        refused += 1;
    }
    log.line("waiting").await?;
    rig.write("go", "")?;
    while let Some(done) = calls.join_next().await {
        let (n, answer) = done?;
        assert_eq!(answer?, json!(n));
    }
    Ok(())
}

#[tokio::test]
async fn a_call_waits_for_a_place_no_longer_than_it_may_take() -> TestResult {
    let rig = limited(|limits| limits.calls = 1)?;
    let mut log = Watch::new(&rig);
    rig.deploy(LINGER).await?;
    let second = async {
        log.line("lingering").await?;
        TestResult::Ok(rig.call_as("bob", "echo", json!(1), Duration::from_millis(50)).await)
    };
    let lingering = rig.call("linger", json!(1));
    tokio::select! {
        outcome = second => assert!(is_busy(&outcome?)),
        outcome = lingering => return Err(format!("it ended: {outcome:?}").into()),
    }
    assert_eq!(rig.call("echo", json!(2)).await?, json!(2));
    Ok(())
}

#[tokio::test]
async fn a_call_that_its_own_worker_needs_does_not_wait_for_the_place_of_the_call_it_is_part_of() -> TestResult {
    let rig = limited(|limits| (limits.calls, limits.queue) = (1, 0))?;
    rig.deploy(LINGER).await?;
    assert_eq!(rig.call("outer", json!("nested")).await?, json!("nested"));
    Ok(())
}

#[tokio::test]
async fn parameters_of_waiting_calls_are_bounded_in_bytes() -> TestResult {
    let rig = Rig::with(|settings| {
        settings.request_limit = 2000;
        settings.limits.call_bytes = 2000;
    })?;
    let mut log = Watch::new(&rig);
    rig.deploy(LINGER).await?;
    let second = async {
        log.line("lingering").await?;
        TestResult::Ok(rig.call("echo", json!("x".repeat(1500))).await)
    };
    let filler = "x".repeat(1500);
    tokio::select! {
        outcome = second => assert!(is_busy(&outcome?)),
        outcome = rig.call("linger", json!(filler)) => return Err(format!("it ended: {outcome:?}").into()),
    }
    Ok(())
}

/// Grows until it is killed; with a pause between the steps, so that it does not outrun the watch by far.
const HOG: &str = r"
const kept = [];
const grow = () => { for (let i = 0; i < 16; i++) kept.push(new Uint8Array(1 << 20).fill(1)); setTimeout(grow, 20); };
serve({ rpc: { grow: () => { grow(); return new Promise(() => {}); }, echo: (params) => params } });
";

#[tokio::test]
async fn a_worker_that_eats_memory_is_killed_and_the_reason_says_so() -> TestResult {
    let rig = limited(|limits| limits.memory = 1 << 40)?;
    let mut log = Watch::new(&rig);
    let mut spec = rig.spec(HOG)?;
    spec.memory_limit = Some(200 << 20);
    rig.host.start(spec).await?;
    rig.deploy_other("serve({ rpc: { pid: () => process.pid } });").await?;
    let before = rig.call_other("pid").await?;

    let outcome = rig.call("grow", Value::Null).await;
    let Err(CallError::Died(death)) = outcome else { return Err(format!("it lives: {outcome:?}").into()) };
    assert_eq!(death.kind, DeathKind::OutOfMemory);
    assert!(death.reason.starts_with("out of memory: it used "), "{death}");
    assert!(death.reason.ends_with(" MiB of the 200 MiB it may use"), "{death}");
    log.line("worker crashed: out of memory: it used").await?;

    assert_eq!(rig.call("echo", json!(1)).await?, json!(1));
    let reports = rig.host.reports();
    let report = reports.get(APP).ok_or("the app is known")?;
    assert_eq!(report.status, Status::Running);
    assert_eq!(report.last_death.as_ref().map(|(death, _)| death.kind), Some(DeathKind::OutOfMemory));
    assert_eq!(rig.call_other("pid").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_backend_that_eats_memory_before_it_is_ready_does_not_start() -> TestResult {
    let rig = limited(|limits| limits.memory = 200 << 20)?;
    let error = rig.host.start(rig.spec(&format!("{HOG} grow(); await new Promise(() => {{}});"))?).await.err();
    let error = error.ok_or("it started")?.to_string();
    assert!(error.contains("out of memory: it used") && error.contains("of the 200 MiB"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_flood_of_output_is_dropped_counted_and_hinders_no_call_of_others() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(
        r#"const line = "x".repeat(99) + "\n", block = line.repeat(100);
        const flood = (stream) => { if (!globalThis.over) stream.write(block, () => setImmediate(flood, stream)); };
        serve({ rpc: {
          flood: () => { flood(process.stdout); flood(process.stderr); },
          stop: () => { globalThis.over = true; },
          echo: (params) => params,
        } });"#,
    )
    .await?;
    rig.deploy_other("serve({ rpc: { pid: () => process.pid } });").await?;
    rig.call("flood", Value::Null).await?;
    let report = log.line_with(" log lines dropped").await?;
    assert_eq!(report.level, Level::System);
    for _ in 0..50 {
        rig.call_other("pid").await?;
    }
    assert_eq!(rig.call("echo", json!(1)).await?, json!(1));
    rig.call("stop", Value::Null).await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_worker_is_stopped_and_a_start_wakes_it() -> TestResult {
    let rig = limited(|limits| limits.idle = Some(Duration::from_millis(50)))?;
    let mut log = Watch::new(&rig);
    rig.deploy("console.log(`process ${process.pid}`); serve({});").await?;
    let before = log.line("process ").await?;
    log.line("worker stopped: it had no calls").await?;
    assert_eq!(rig.host.status(APP), Some(Status::Stopped));
    assert!(matches!(rig.call("pid", Value::Null).await, Err(CallError::NotRunning { .. })));
    assert!(rig.host.reports().get(APP).is_some_and(|report| report.last_death.is_none()), "being stopped is no death");

    rig.host.ensure_started(keeping(&rig)?).await?;
    let after = rig.call("pid", Value::Null).await?;
    assert_ne!(*before.message, *format!("process {after}"));
    Ok(())
}

#[tokio::test]
async fn a_worker_with_work_of_its_own_is_never_idle() -> TestResult {
    let rig = limited(|limits| limits.idle = Some(Duration::from_millis(50)))?;
    rig.host.start(keeping(&rig)?).await?;
    let before = rig.call("pid", Value::Null).await?;
    let mut log = Watch::other(&rig);
    rig.deploy_other("serve({});").await?;
    log.line("worker stopped: it had no calls").await?;
    assert_eq!(rig.call("pid", Value::Null).await?, before);
    Ok(())
}

fn keeping(rig: &Rig) -> TestResult<WorkerSpec> {
    let mut spec = rig.spec(LINGER)?;
    spec.keep_running = true;
    Ok(spec)
}

#[tokio::test]
async fn a_worker_that_reads_nothing_any_more_is_replaced_and_one_that_is_only_slow_is_not() -> TestResult {
    let rig = limited(|limits| limits.silence = Duration::from_secs(1))?;
    let mut log = Watch::new(&rig);
    rig.deploy(
        r"serve({ rpc: {
          pid: () => process.pid, block: () => { for (;;); }, never: () => new Promise(() => {}),
          later: async () => { await Bun.sleep(1200); return process.pid; },
        } });",
    )
    .await?;
    let before = rig.call("pid", Value::Null).await?;
    let moment = Duration::from_millis(50);
    assert!(matches!(rig.call_as("ann", "never", Value::Null, moment).await, Err(CallError::Timeout(_))));
    assert_eq!(rig.call("later", Value::Null).await?, before);

    assert!(matches!(rig.call_as("ann", "block", Value::Null, moment).await, Err(CallError::Timeout(_))));
    log.line("worker crashed: it stopped answering").await?;
    assert_ne!(rig.call("pid", Value::Null).await?, before);
    let death = rig.host.reports().remove(APP).and_then(|report| report.last_death);
    assert_eq!(death.map(|(death, _)| death.kind), Some(DeathKind::Unresponsive));
    Ok(())
}

#[tokio::test]
async fn a_worker_that_began_to_serve_late_is_replaced_as_well() -> TestResult {
    let rig = limited(|limits| limits.silence = Duration::from_secs(1))?;
    let mut log = Watch::new(&rig);
    rig.deploy("setTimeout(() => { serve({ rpc: { block: () => { for (;;); } } }); console.log('serving'); }, 1);").await?;
    log.line("serving").await?;
    let moment = Duration::from_millis(50);
    assert!(matches!(rig.call_as("ann", "block", Value::Null, moment).await, Err(CallError::Timeout(_))));
    log.line("worker crashed: it stopped answering").await?;
    Ok(())
}

#[tokio::test]
async fn a_request_whose_id_costs_more_than_its_answer_is_dropped() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(
        "serve({ rpc: { ask: () => {
           const request = { type: 'self_action', id: 'x'.repeat(300), call: 'A'.repeat(22), action: 'whoami', params: {} };
           process.stdout.write(JSON.stringify(request) + '\\n');
         }, echo: (params) => params } });",
    )
    .await?;
    rig.call("ask", Value::Null).await?;
    log.line("dropped a request of the backend").await?;
    assert_eq!(rig.call("echo", json!(1)).await?, json!(1));
    Ok(())
}

#[tokio::test]
async fn a_crash_loop_is_told_apart_from_a_single_death() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy("setTimeout(() => process.exit(4), 1); serve({});").await?;
    log.line("crash loop: 5 deaths within").await?;
    let report = rig.host.reports().remove(APP).ok_or("the app is known")?;
    let (death, _) = report.last_death.ok_or("it died")?;
    assert_eq!((report.status, death.kind, death.kind.code()), (Status::Crashed, DeathKind::CrashLoop, "crash_loop"));
    assert!(death.reason.ends_with("last because it exited with code 4"), "{death}");
    Ok(())
}

#[tokio::test]
async fn a_report_tells_memory_and_calls() -> TestResult {
    let rig = Rig::new()?;
    let mut log = Watch::new(&rig);
    rig.deploy(LINGER).await?;
    let look = async {
        log.line("lingering").await?;
        let report = rig.host.reports().remove(APP).ok_or("the app is known")?;
        assert_eq!((report.status, report.calls_in_flight), (Status::Running, 1));
        // What is measured first may be the process before it became a worker.
        let is_measured = || {
            let report = rig.host.reports().remove(APP);
            report.and_then(|report| report.memory).is_some_and(|bytes| bytes > 1 << 20)
        };
        let measured = async {
            while is_measured() != weft_workers::MEMORY_IS_WATCHED {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, measured).await?;
        rig.call("release", Value::Null).await?;
        TestResult::Ok(())
    };
    let (answer, looked) = tokio::join!(rig.call_as("ann", "linger", Value::Null, LONG), look);
    answer?;
    looked
}
