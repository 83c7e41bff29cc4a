interface Config {
  apiKey?: string;
}

defineIntegration<Config>({
  actions: {
    hello: async (input: { name: string }, ctx) => {
      ctx.log.info(`greeting ${input.name}`);
      return { message: `Hello ${input.name}` };
    },
  },
  webhooks: {
    event: async ({ body }, ctx) => {
      ctx.log.info("event received", body);
      return { received: true };
    },
  },
});
