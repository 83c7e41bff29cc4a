/**
 * What the pages cannot do with the REST API of records alone. Everything here happens with the rights of whoever is logged in: what they
 * may not see is not counted, and what they may not create is not created.
 */
/// <reference path="../../../js/worker/globals.d.ts" />

interface NewContact {
  name: string;
  email?: string;
  title?: string;
  /** The name of a company; a new one is made when there is none of that name. */
  company?: string;
}

serve({
  rpc: {
    /** A contact, and its company with it: both, or none of them. */
    addContact: ({ company, ...contact }: NewContact, _caller, ctx) =>
      ctx.transaction(async (tx) => {
        const link = company ? await companyOf(tx, company) : null;
        const { rows } = await tx.sql(
          "insert into contacts (name, email, title, company) values ($1, $2, $3, $4) returning id",
          [contact.name, contact.email || null, contact.title || null, link],
        );
        return { id: rows[0]?.[0], company: link };
      }),

    /** Every company with its people and the caller's own deals, by a view that a migration made. */
    companies: async (_params, _caller, ctx) => {
      const { rows } = await ctx.sql(
        "select id, name, city, website, people, open_amount from company_overview order by name",
      );
      return rows.map(([id, name, city, website, people, openAmount]) => ({
        id,
        name,
        city,
        website,
        people,
        openAmount,
      }));
    },

    /** The caller's own deals by stage. */
    pipeline: async (_params, _caller, ctx) => {
      const { rows } = await ctx.sql("select stage, count(*), coalesce(sum(amount), 0) from deals group by stage");
      return Object.fromEntries(rows.map(([stage, count, amount]) => [stage, { count, amount }]));
    },

    /** Closes one of the caller's own deals. */
    closeDeal: async ({ id, won }: { id: string; won: boolean }, _caller, ctx) => {
      const deal = await ctx.collection("deals").findOne({ id });
      if (deal?.stage !== "open")
        throw new ActionError("there is no such open deal", { category: "Validation", code: "not_open" });
      return ctx.collection("deals").update({ id, stage: won ? "won" : "lost" });
    },
  },
});

async function companyOf(tx: Transaction, name: string): Promise<Json> {
  const known = await tx.sql("select id from companies where name = $1", [name]);
  const made = known.rowCount ? known : await tx.sql("insert into companies (name) values ($1) returning id", [name]);
  return made.rows[0]?.[0];
}
