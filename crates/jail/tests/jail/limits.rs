//! How much a program may use, and that it does not outlive its keeper.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::rig::{LONG, Rig, TestResult};

#[tokio::test]
async fn open_files_are_bounded() -> TestResult {
    let mut rig = Rig::new()?;
    rig.policy.limits.open_files = Some(64);
    let said = rig
        .say(
            r#"
            import fs from "node:fs";
            let opened = 0;
            const code = await attempt(() => { for (;;) { fs.openSync("main.ts", "r"); opened++; } });
            say([code, opened < 64]);
            "#,
            &[],
        )
        .await?;
    assert_eq!(said, json!(["EMFILE", true]));
    Ok(())
}

#[tokio::test]
async fn a_starter_with_more_open_files_than_the_program_may_have_starts_it() -> TestResult {
    let mut rig = Rig::new()?;
    rig.policy.limits.open_files = Some(64);
    let many: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null")).collect::<Result<_, _>>()?;
    assert_eq!(rig.say("say('started');", &[]).await?, json!("started"));
    assert_eq!(many.len(), 200);
    Ok(())
}

#[tokio::test]
async fn files_are_bounded() -> TestResult {
    let mut rig = Rig::new()?;
    rig.policy.limits.file_size = Some(1 << 16);
    let program = r#"
        import fs from "node:fs";
        process.on("SIGXFSZ", () => {});
        say(await attempt(() => { fs.writeFileSync(`${process.env.TMPDIR}/big`, Buffer.alloc(1 << 20)); return "written"; }));
    "#;
    rig.run(program, &[]).await?;
    assert!(std::fs::metadata(rig.path("scratch/big"))?.len() <= 1 << 16);
    Ok(())
}

#[tokio::test]
async fn a_program_starts_no_other_even_itself() -> TestResult {
    let rig = Rig::new()?;
    let program = r#"
        import { spawnSync } from "node:child_process";
        const result = spawnSync(process.execPath, ["--version"]);
        say(result.error?.code ?? result.stdout.toString());
    "#;
    assert_eq!(rig.say(program, &[]).await?, json!("EPERM"));
    Ok(())
}

#[tokio::test]
async fn a_program_gives_way_as_far_as_it_is_told_and_never_less_than_its_starter() -> TestResult {
    let mut rig = Rig::new()?;
    // Its place among the numbers of a process, behind a name in parentheses.
    let numbers = std::fs::read_to_string("/proc/self/stat")?;
    let own: u8 = numbers.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).ok_or("no niceness")?.parse()?;
    for wanted in [1, 19] {
        rig.policy.limits.niceness = wanted;
        assert_eq!(rig.say(r#"say((await import("node:os")).getPriority());"#, &[]).await?, json!(wanted.max(own)));
    }
    Ok(())
}

/// Programs that may start others are held by the number of tasks.
#[tokio::test]
async fn a_fork_bomb_is_bounded() -> TestResult {
    if !weft_jail::support().namespaces {
        return Ok(());
    }
    let mut rig = Rig::new()?;
    rig.policy.limits.processes = true;
    rig.policy.limits.tasks = Some(60);
    let program = r#"
        const children = [];
        const code = await attempt(() => { for (let n = 0; n < 200; n++) children.push(Bun.spawn([process.execPath, "-e", "await Bun.sleep(1e6)"])); });
        say([typeof code, children.length < 60]);
        process.exit();
    "#;
    let mut jailed = rig.start(program, &[]).await?;
    let group = jailed.child.id().ok_or("it ended")?;
    let mut lines = tokio::io::BufReader::new(jailed.child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    tokio::time::timeout(LONG, tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)).await??;
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group.cast_signed()), nix::sys::signal::Signal::SIGKILL).ok();
    assert_eq!(line.trim(), r#"["string",true]"#);
    Ok(())
}

#[tokio::test]
async fn mapped_memory_is_bounded() -> TestResult {
    let mut rig = Rig::new()?;
    rig.policy.limits.data = Some(1 << 30);
    let program = r"const kept = []; for (;;) kept.push(new Uint8Array(1 << 26).fill(1));";
    assert!(!rig.run(program, &[]).await?.status.success());
    Ok(())
}

#[tokio::test]
async fn its_memory_can_be_watched() -> TestResult {
    let rig = Rig::new()?;
    let mut jailed =
        rig.start(r"const kept = new Uint8Array(1 << 27).fill(1); say(kept.length); await Bun.sleep(1e6);", &[]).await?;
    let mut lines = tokio::io::BufReader::new(jailed.child.stdout.take().ok_or("no output")?);
    tokio::time::timeout(LONG, tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut String::new())).await??;
    let memory = jailed.child.id().and_then(weft_jail::resident_memory).ok_or("unknown")?;
    assert!(memory > 1 << 27 && memory < 1 << 30, "{memory}");
    Ok(())
}

/// The test starts itself again as a keeper that is killed, and watches the program that this one had in a jail.
#[tokio::test]
async fn a_program_dies_with_its_keeper() -> TestResult {
    const KEEPER: &str = "WEFT_JAIL_TEST_KEEPER";
    if std::env::var_os(KEEPER).is_some() {
        let rig = Rig::new()?;
        let jailed = rig.start("await Bun.sleep(1e6);", &[]).await?;
        println!("jailed {}", jailed.child.id().ok_or("it ended")?);
        std::future::pending::<()>().await;
    }
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["a_program_dies_with_its_keeper", "--nocapture"]).env(KEEPER, "1");
    let mut keeper = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(keeper.stdout.take().ok_or("no output")?));
    let process = loop {
        let line = tokio::time::timeout(LONG, lines.next_line()).await??.ok_or("the keeper ended")?;
        if let Some((_, number)) = line.split_once("jailed ") {
            break number.trim().parse::<u32>()?;
        }
    };
    assert!(weft_jail::resident_memory(process).is_some());
    keeper.start_kill()?;
    assert_eq!(keeper.wait().await?.signal(), Some(9));
    let gone = async {
        while weft_jail::resident_memory(process).is_some_and(|bytes| bytes > 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await?;
    Ok(())
}

#[test]
fn whatever_is_absent_has_a_reason() {
    let support = weft_jail::support();
    let present = [
        support.landlock.is_some(),
        support.seccomp,
        support.connect_broker,
        support.namespaces,
        support.own_account,
        support.resource_limits,
    ];
    assert_eq!(present.iter().filter(|part| !**part).count(), support.missing.len(), "{support:?}");
    assert!(support.missing.iter().all(|missing| !missing.reason.is_empty()));
}
