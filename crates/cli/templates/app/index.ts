serve({
  rpc: {
    ping: async (_params, caller, ctx) => {
      ctx.log.info("ping");
      return { pong: true, you: caller?.email };
    },
  },
});
