// What the servers under test run. Whatever has an effect leaves a line in a file that outlives the process.
import { appendFileSync } from "node:fs";

function effect(kind: string, nonce: string): string {
  const execution = crypto.randomUUID();
  appendFileSync(`${process.env.HOME}/effects`, `${JSON.stringify({ kind, nonce, execution })}\n`);
  return execution;
}

async function echo({ nonce, ms }, ctx) {
  if (ms) await Bun.sleep(ms);
  return { nonce, userId: ctx.userId };
}

const acts = (kind: string) => async (input, ctx) => {
  const execution = effect(kind, input.nonce);
  return { ...(await echo(input, ctx)), execution };
};

defineIntegration({
  actions: {
    echo,
    secret: echo,
    nested: async (input, ctx) => ({
      ...(await echo(input, ctx)),
      inner: await ctx.callIntegration(input.other, "echo", { nonce: input.nonce }),
    }),
    once: acts("once"),
    destroy: acts("destroy"),
  },
  webhooks: {
    push: async ({ body }) => {
      const execution = effect("webhook", body.nonce);
      if (body.ms) await Bun.sleep(body.ms);
      return { nonce: body.nonce, execution };
    },
  },
});
