// An app that does things later. What a job does, and that it was done, are one statement, so a second attempt does nothing.
const ONCE = `
  with new as (insert into done (job) values ($1) on conflict (job) do nothing returning job)
  insert into effects (job, kind, subject, step, previous)
  select $1, $2, $3, $4, (select max(step) from effects where kind = $2 and subject = $3) from new`;

function cause(payload) {
  if (payload._hook) {
    const record = payload.record ?? payload.old_record;
    return { kind: payload.operation, subject: payload.record_id, step: record.step };
  }
  if (payload.cron_id) return { kind: "tick", subject: payload.cron_id, step: 0 };
  return { kind: "asked", subject: payload.nonce, step: 0 };
}

serve({
  async onJob(payload, caller, ctx) {
    const { kind, subject, step } = cause(payload);
    // Some are broken off before they did anything, some after they did it, and some fail by themselves.
    if (kind === "UPDATE" && step % 5 === 3 && ctx.job.attempt === 1) throw new Error("not the first time");
    const pause = payload.ms ?? (step % 3) * 15;
    if (pause) await Bun.sleep(pause);
    await ctx.sql(ONCE, [ctx.job.id, kind, subject, step]);
    if (pause) await Bun.sleep(pause);
    return { kind, subject, step };
  },
});
