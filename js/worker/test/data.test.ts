import { describe, expect, test } from "bun:test";
import { DISCOVER } from "./backend.ts";
import { started } from "./running.ts";

const ALICE = { userId: "u-alice", email: "alice@example.com" };

describe("data", () => {
  test("of a collection is asked for under the id of the call", async () => {
    const backend = await started(`serve({ rpc: {
      add: (data, caller, ctx) => ctx.collection("contacts").insert(data),
      all: (where, caller, ctx) => ctx.collection("contacts").find(),
    } });`);
    const id = backend.begin("add", { name: "Ann" }, ALICE);
    const asked = await backend.next("collection_op");
    expect(asked).toMatchObject({ call: id, op: "insert", entity: "contacts", data: { name: "Ann" } });
    backend.send({ type: "collection_op_result", id: asked.id, result: { id: "1", name: "Ann" } });
    expect((await backend.answer(id)).result).toEqual({ id: "1", name: "Ann" });
    backend.begin("all");
    expect(await backend.find((message) => message.op === "find")).toMatchObject({ data: {} });
  });

  test("that is refused fails with the host's code", async () => {
    const backend = await started(`serve({ rpc: {
      async count(_, caller, ctx) {
        try { return await ctx.sql("select $1", [1]); } catch (error) { return [error.code, error.category, error.message]; }
      },
    } });`);
    const id = backend.begin("count");
    const asked = await backend.next("sql_query");
    expect(asked).toMatchObject({ call: id, sql: "select $1", params: [1] });
    const error = { message: "no", code: "forbidden", category: "Validation" };
    backend.send({ type: "sql_query_result", id: asked.id, error });
    expect((await backend.answer(id)).result).toEqual(["forbidden", "Validation", "no"]);
  });

  test("in a transaction is committed once, or rolled back with the error of its work", async () => {
    const backend = await started(`serve({ rpc: {
      move: (fails, caller, ctx) => ctx.transaction(async (tx) => {
        await tx.sql("update a set n = 1");
        if (fails) throw new ActionError("not today", { category: "Validation" });
        return "moved";
      }),
    } });`);
    for (const [fails, end] of [
      [false, "sql_commit"],
      [true, "sql_rollback"],
    ] as const) {
      const id = backend.begin("move", fails);
      const begun = await backend.find((message) => message.type === "sql_begin" && message.call === id);
      backend.send({ type: "sql_begin_result", id: begun.id, result: { txId: "t" } });
      const asked = await backend.find((message) => message.type === "sql_exec" && message.call === id);
      expect(asked).toMatchObject({ tx_id: "t", sql: "update a set n = 1" });
      backend.send({ type: "sql_exec_result", id: asked.id, result: { columns: [], rows: [], rowCount: 1 } });
      const ended = await backend.find((message) => message.type === end && message.call === id);
      backend.send({ type: "sql_end_result", id: ended.id, result: null });
      const answer = await backend.answer(id);
      expect(fails ? answer.error.message : answer.result).toBe(fails ? "not today" : "moved");
    }
  });
});

describe("onStart", () => {
  test("has an id of its own, which it gives back when it has ended", async () => {
    const backend = await started(`serve({
      rpc: {},
      async onStart(ctx) { await ctx.collection("settings").insert({ name: "first" }); },
    });`);
    backend.send({ ...DISCOVER, run_onstart: true, start_call: "start-1" });
    const asked = await backend.next("collection_op");
    expect(asked.call).toBe("start-1");
    backend.send({ type: "collection_op_result", id: asked.id, result: {} });
    expect(await backend.answer("start-1")).toEqual({ type: "rpc_response", id: "start-1", result: null });
  });
});
