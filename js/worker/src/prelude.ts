/**
 * First program of every backend process: `bun prelude.ts <entry point>`. Sets the globals, evaluates the entry point and
 * announces it. The protocol is described in docs/worker-protocol.md.
 *
 * stdin stays untouched until `serve` is called, so a backend that speaks the protocol by hand can read it itself. An
 * entry point that cannot be loaded is reported as `fatal`, and the process exits with 1.
 */
import { globalEmit, globalLog, globalUpload } from "./calls.ts";
import { PlatformActionError, stackOf } from "./errors.ts";
import { defineIntegration } from "./integration.ts";
import { describe, load } from "./load.ts";
import { methods, offers, onLateServe, serve, takesJobs } from "./serve.ts";
import { exit, send, shareStdout } from "./wire.ts";

const BY_HAND = 1;
const SERVED = 2;

function setGlobals(): void {
  Object.assign(globalThis, {
    serve,
    defineIntegration,
    emit: globalEmit,
    log: globalLog,
    uploadFile: globalUpload,
    ActionError: PlatformActionError,
  });
  const { debug, info, warn, error } = globalLog;
  Object.assign(console, { debug, info, log: info, warn, error });
}

function announce(): void {
  const offered = methods();
  const protocol = offered ? SERVED : BY_HAND;
  send({ type: "discover", protocol, methods: offered ?? [], jobs: takesJobs(), ...offers() });
}

// One forgotten await must not end a process that serves every user of the app.
process.on("unhandledRejection", (reason) => globalLog.error(`unhandled rejection: ${stackOf(reason)}`));
process.once("beforeExit", () => {
  if (!methods()) globalLog.warn("the backend has nothing left to do and ends: did the entry point call serve()?");
});

shareStdout();
setGlobals();
try {
  await load(process.argv[2] ?? "index.ts");
  announce();
  if (!methods()) onLateServe(announce);
} catch (error) {
  send({ type: "fatal", error: { message: describe(error) } });
  exit(1);
}
