import { expect, test } from "bun:test";

const integration = await testIntegration();

test("hello greets by name", async () => {
  expect(await integration.call("hello", { name: "Ada" })).toEqual({ message: "Hello Ada" });
});

test("an event is received", async () => {
  const answer = await integration.webhook("event", { body: { what: "happened" } });
  expect(answer).toEqual({ received: true });
});
