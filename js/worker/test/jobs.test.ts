import { describe, expect, test } from "bun:test";
import { started } from "./running.ts";

const ALICE = { userId: "u-alice", email: "alice@example.com" };
const job = (more: Json) => ({
  type: "job",
  id: "j",
  payload: {},
  msg_id: "42",
  attempt: 1,
  timeout_ms: 1000,
  ...more,
});

describe("a job", () => {
  test("reaches onJob with payload, caller and what it is an attempt at, and its result is sent back", async () => {
    const backend = await started("serve({ onJob: (payload, caller, ctx) => ({ payload, caller, job: ctx.job }) });");
    backend.send(job({ payload: { n: 1 }, caller: ALICE, attempt: 2 }));
    expect(await backend.next("job_result")).toEqual({
      type: "job_result",
      id: "j",
      result: { payload: { n: 1 }, caller: ALICE, job: { id: "42", attempt: 2 } },
    });
  });

  test("without a caller has null", async () => {
    const backend = await started("serve({ onJob: (payload, caller) => caller });");
    backend.send(job({}));
    expect((await backend.next("job_result")).result).toBe(null);
  });

  test("that fails is answered with its error", async () => {
    const backend = await started(
      "serve({ onJob() { throw new ActionError('later', { code: 'busy', category: 'RateLimited', retryAfter: 3 }); } });",
    );
    backend.send(job({}));
    const { error } = await backend.next("job_result");
    expect(error).toEqual({ message: "later", code: "busy", category: "RateLimited", retry_after: 3 });
  });

  test("for a backend without onJob is refused", async () => {
    const backend = await started("serve({ rpc: { onJob: () => 'not this one' } });");
    backend.send(job({}));
    expect((await backend.next("job_result")).error.code).toBe("unknown_method");
  });

  test("may ask the platform as its caller", async () => {
    const backend = await started("serve({ onJob: (_, caller, ctx) => ctx.callIntegration('slack', 'send', {}) });");
    backend.send(job({ caller: ALICE }));
    const asked = await backend.next("self_action");
    expect(asked.call).toBe("j");
    backend.send({ type: "self_action_result", id: asked.id, result: "sent" });
    expect((await backend.next("job_result")).result).toBe("sent");
  });
});
