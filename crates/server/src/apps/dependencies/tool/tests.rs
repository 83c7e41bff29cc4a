//! The package manager's jail and bounds, with a program of our own in its place.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{
    clock::Clock,
    config::{ServeArgs, Settings},
    host,
    host::Accounts,
};

const MIB: u64 = 1024 * 1024;

/// A folder with a program in it, a cache, and an installer whose registry is `registry`.
struct Rig {
    root: tempfile::TempDir,
    installer: Installer,
}

impl Rig {
    fn new(registry: &str, memory: u64) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let runtime = std::env::var_os("WEFT_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"));
        let bun = host::find_bun(&[runtime]).expect("run `make runtime` first");
        let mut settings = Settings::load(ServeArgs { package_registry: Some(registry.to_owned()), ..ServeArgs::default() });
        settings.as_mut().expect("the defaults are valid").packages.memory = memory;
        let settings = settings.expect("the defaults are valid");
        let account = Accounts::if_root().map(|accounts| accounts.installer);
        for name in ["", "folder", "cache"] {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("a folder");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its mode");
        }
        let installer = Installer::new((bun, root.path().to_owned()), account, &settings, Clock::default());
        Self { root, installer }
    }

    /// Runs a program where only the package manager should ever run.
    async fn run(&self, program: &str) -> Result<Value, Error> {
        let (folder, cache) = (self.root.path().join("folder"), self.root.path().join("cache"));
        fs::write(folder.join("program.ts"), program).expect("written");
        let output = Tool::new(&self.installer, &folder, &cache).run(&["run", "program.ts"]).await?;
        Ok(serde_json::from_slice(&output).unwrap_or_default())
    }
}

#[tokio::test]
async fn even_code_that_ran_in_there_would_reach_the_registry_and_its_own_files_only() {
    if !super::super::is_confined() {
        return;
    }
    let (registry, other) =
        (TcpListener::bind("127.0.0.1:0").await.expect("a port"), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let rig = Rig::new(&format!("http://127.0.0.1:{}/", port(&registry)), 512 * MIB);
    fs::write(rig.root.path().join("secret"), "of another app").expect("written");
    let program = format!(
        "import {{ connect }} from 'node:net'; import {{ readFileSync, writeFileSync }} from 'node:fs'; import {{ spawnSync }} from 'node:child_process';
         const reach = (port: number) => new Promise((done) => {{
             const socket = connect(port, '127.0.0.1');
             socket.on('connect', () => {{ socket.destroy(); done('connected'); }}).on('error', (error: any) => done(error.code));
         }});
         const attempt = (work: () => unknown) => {{ try {{ work(); return 'done'; }} catch (error: any) {{ return error.code; }} }};
         console.log(JSON.stringify({{
             registry: await reach({}), other: await reach({}),
             secret: attempt(() => readFileSync('../secret')), passwords: attempt(() => readFileSync('/etc/passwd')),
             own: attempt(() => writeFileSync('own', '')), cache: attempt(() => writeFileSync('../cache/x', '')),
             beside: attempt(() => writeFileSync('../x', '')), program: spawnSync('/bin/sh', ['-c', 'true']).error?.code ?? 'ran',
             environment: Object.keys(process.env).filter((name) => /SECRET|KEY|TOKEN|DATABASE/.test(name)),
         }}));",
        port(&registry),
        port(&other),
    );
    let said = rig.run(&program).await.expect("it runs");
    for (what, outcome) in
        [("registry", "connected"), ("own", "done"), ("cache", "done"), ("secret", "EACCES"), ("passwords", "EACCES")]
    {
        assert_eq!(said[what], outcome, "{what}: {said}");
    }
    for what in ["other", "beside", "program"] {
        assert!(!["connected", "done", "ran"].contains(&said[what].as_str().unwrap_or_default()), "{what}: {said}");
    }
    assert_eq!(said["environment"], json!([]));
}

#[tokio::test]
async fn what_needs_too_much_memory_is_ended_with_the_name_of_the_setting() {
    let rig = Rig::new("https://npm.test/", 300 * MIB);
    let program = "const kept = []; while (true) kept.push(new Uint8Array(1 << 20).fill(1));";
    let error = rig.run(program).await.expect_err("too much").to_string();
    assert!(error.contains("300 MiB") && error.contains("packages.memory_mib"), "{error}");
}

#[tokio::test]
async fn giving_up_ends_everything_that_was_started() {
    let rig = Rig::new("https://npm.test/", 512 * MIB);
    let mark = rig.root.path().join("cache/process");
    let program = "require('node:fs').writeFileSync('../cache/process', String(process.pid)); setInterval(() => {}, 1000);";
    let started = async {
        loop {
            match fs::read_to_string(&mark) {
                Ok(text) if !text.is_empty() => break text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let process = tokio::select! {
        ended = rig.run(program) => panic!("it ended: {ended:?}"),
        process = started => process,
    };
    while fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|state| !state.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_is_kept_from_its_end_and_bounded() {
    let long = [vec![b'a'; 3 * KEPT_OUTPUT], b"the end".to_vec()].concat();
    let kept = tail(Some(&*long)).await.expect("read");
    assert!(kept.len() == KEPT_OUTPUT && kept.ends_with(b"the end"));
}
