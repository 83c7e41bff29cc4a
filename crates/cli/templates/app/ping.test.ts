import { expect, test } from "bun:test";

const app = await testIntegration();

test("ping knows who calls", async () => {
  const caller = { userId: "u-1", email: "ada@example.com" };
  expect(await app.rpc("ping", {}, { caller })).toEqual({ pong: true, you: "ada@example.com" });
});
