//! Files and programs.

use serde_json::json;

use crate::rig::{Rig, TestResult};

#[tokio::test]
async fn its_own_folder_is_readable_and_its_scratch_folder_writable() -> TestResult {
    let rig = Rig::new()?;
    let said = rig
        .say(
            r#"
            import fs from "node:fs";
            const file = `${process.env.TMPDIR}/note`;
            fs.writeFileSync(file, "kept");
            fs.renameSync(file, `${file}.2`);
            const read = fs.readFileSync(`${file}.2`, "utf8");
            fs.unlinkSync(`${file}.2`);
            say([read, fs.readdirSync("."), fs.readFileSync("main.ts", "utf8").length > 0]);
            "#,
            &[],
        )
        .await?;
    assert_eq!(said, json!(["kept", ["main.ts"], true]));
    Ok(())
}

#[tokio::test]
async fn everything_else_is_closed() -> TestResult {
    let rig = Rig::new()?;
    let said = rig
        .say(
            r#"
            import fs from "node:fs";
            import { spawnSync } from "node:child_process";
            const [other, server] = process.argv.slice(2);
            const read = (path: string) => attempt(() => fs.readFileSync(path, "utf8").length);
            const write = (path: string) => attempt(() => fs.writeFileSync(path, "x"));
            fs.writeFileSync(`${process.env.TMPDIR}/tool`, "\x23!/bin/sh\necho ran\n", { mode: 0o755 });
            const run = (path: string) => attempt(() => { const r = spawnSync(path, ["-c", "id"]); if (r.error) throw r.error; return r.status; });
            say({
              passwd: await read("/etc/passwd"),
              otherApp: await read(`${other}/secret`),
              parentEnvironment: await read(`/proc/${server}/environ`),
              firstEnvironment: await read("/proc/1/environ"),
              parentMemory: await attempt(() => fs.openSync(`/proc/${server}/mem`, "r")),
              root: await attempt(() => fs.readdirSync("/root").length),
              ownCode: await write("main.ts"),
              otherFolder: await write(`${other}/new`),
              tmp: await write("/tmp/jail-was-here"),
              shell: await run("/bin/sh"),
              ownTool: await run(`${process.env.TMPDIR}/tool`),
            });
            "#,
            &[&rig.path("other").to_string_lossy(), &std::process::id().to_string()],
        )
        .await?;
    let closed: Vec<_> =
        said.as_object().ok_or("not an object")?.iter().filter(|(_, code)| *code != "EACCES" && *code != "EPERM").collect();
    assert!(closed.is_empty(), "{closed:?}");
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() -> TestResult {
    let mut rig = Rig::new()?;
    rig.policy.readable.push("/no/such/folder".into());
    let error = rig.start("", &[]).await.err().ok_or("it started")?.to_string();
    assert!(error.contains("/no/such/folder"), "{error}");
    Ok(())
}
