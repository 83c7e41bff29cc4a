/** Starts backends for tests, and ends them with their folders, so that nothing outlives a test. */
import { onTestFinished } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Backend, DISCOVER } from "./backend.ts";

export type Files = Record<string, string>;

/** A backend made of a source text or of files, which has announced itself. */
export function started(source: string | Files, discover: Json = DISCOVER): Promise<Backend> {
  return announced(spawned(source), discover);
}

/** A backend that lies in a folder, which has announced itself. */
export function startedIn(folder: string, entryPoint: string): Promise<Backend> {
  return announced(run(folder, entryPoint), DISCOVER);
}

/** A backend that has only just been started. */
export function spawned(source: string | Files, entryPoint = "index.ts"): Backend {
  const folder = mkdtempSync(join(tmpdir(), "backend-"));
  const files = typeof source === "string" ? { "index.ts": source } : source;
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return run(folder, entryPoint, () => rmSync(folder, { recursive: true, force: true }));
}

function run(folder: string, entryPoint: string, afterwards = () => {}): Backend {
  const backend = new Backend(folder, entryPoint);
  onTestFinished(() => backend.stop().finally(afterwards));
  return backend;
}

async function announced(backend: Backend, discover: Json): Promise<Backend> {
  backend.send(discover);
  await backend.next("discover");
  return backend;
}
