/** Plays the host: runs a backend under the real prelude and talks to it over stdio. */
import { resolve } from "node:path";

const PRELUDE = resolve(import.meta.dir, "../src/prelude.ts");

export const DISCOVER = {
  type: "discover",
  app_id: "crm",
  runtime_url: "http://127.0.0.1:9100",
  credentials: { API_KEY: "k-1" },
  manifest: { appId: "crm", version: "1.0.0" },
  run_onstart: false,
};

export class Backend {
  /** Every message so far, in order; a line that is no message appears as `{ type: "raw", line }`, an empty one not at all. */
  readonly seen: Json[] = [];
  private readonly listeners = new Set<() => void>();
  private readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  private readonly reading: Promise<void>;
  private calls = 0;

  constructor(folder: string, entryPoint: string) {
    this.process = Bun.spawn([process.execPath, "--no-install", PRELUDE, entryPoint], {
      cwd: folder,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.reading = this.read();
  }

  send(message: Json): void {
    this.sendText(`${JSON.stringify(message)}\n`);
  }

  sendText(text: string): void {
    this.process.stdin.write(text);
    this.process.stdin.flush();
  }

  /** Sends an `rpc` and returns its id. */
  begin(method: string, params: Json = {}, caller: Caller | null = null): string {
    this.calls += 1;
    const id = `call-${this.calls}`;
    this.send({ type: "rpc", id, method, params, caller, timeout_ms: 30_000 });
    return id;
  }

  /** Sends an `rpc` and returns the whole answer. */
  call(method: string, params: Json = {}, caller: Caller | null = null): Promise<Json> {
    return this.answer(this.begin(method, params, caller));
  }

  answer(id: string): Promise<Json> {
    return this.find((message) => message.type === "rpc_response" && message.id === id);
  }

  next(type: string): Promise<Json> {
    return this.find((message) => message.type === type);
  }

  /** The first message that fits, be it past or to come. */
  async find(fits: (message: Json) => boolean): Promise<Json> {
    for (;;) {
      const found = this.seen.find(fits);
      if (found) return found;
      await this.more();
    }
  }

  logs(): string[] {
    return this.seen.filter((message) => message.type === "log").map((message) => message.message);
  }

  closeStdin(): void {
    this.process.stdin.end();
  }

  /** Waits for the end of the process and returns its exit code. */
  async ended(): Promise<number> {
    const code = await this.process.exited;
    await this.reading;
    return code;
  }

  async stop(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.ended();
  }

  private more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const listener = () => {
        this.listeners.delete(listener);
        resolve();
      };
      this.listeners.add(listener);
      this.reading.then(() => reject(new Error(`the backend ended; it said ${JSON.stringify(this.seen)}`)));
    });
  }

  private async read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.process.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") this.seen.push(parse(line));
      for (const listener of [...this.listeners]) listener();
    }
  }
}

function parse(line: string): Json {
  try {
    const message = JSON.parse(line);
    return typeof message?.type === "string" ? message : { type: "raw", line };
  } catch {
    return { type: "raw", line };
  }
}
