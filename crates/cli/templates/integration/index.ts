defineIntegration({
  actions: {
    // The types of input and output are those of manifest.json: `weft types` writes them to manifest.d.ts.
    hello: async ({ name }, ctx) => {
      ctx.log.info(`greeting ${name}`);
      return { message: `Hello ${name}` };
    },
  },
  webhooks: {
    event: async ({ body }, ctx) => {
      ctx.log.info("event received", body);
      return { received: true };
    },
  },
});
