import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join, resolve } from "node:path";
import type postgres from "postgres";
import { startedIn } from "../../../js/worker/test/running.ts";
import { type Server, startServer } from "./server.ts";

setDefaultTimeout(60_000);

const FOLDER = resolve(import.meta.dir, "..");
const CA = readFileSync(join(import.meta.dir, "tls/ca.pem"), "utf8");

let server: Server;
let shop: postgres.Sql;
let connection: Json;

beforeAll(async () => {
  server = await startServer();
  connection = {
    host: "localhost",
    port: server.port,
    database: "shop",
    user: "clerk",
    password: "s3cret-word",
    tls: "verify-full",
    caCertificate: CA,
  };
  await server.admin.unsafe("create role clerk login password 's3cret-word'");
  await server.admin.unsafe("create database shop owner clerk");
  shop = server.login("shop", "clerk", "s3cret-word");
});
beforeEach(async () => {
  await shop.unsafe(`
    drop schema if exists public cascade;
    create schema public;
    create table customers (
      id bigint generated always as identity primary key, email text not null unique, tags text[], born date,
      extra jsonb, photo bytea, balance numeric(12, 2) not null default 0, vip boolean, seen timestamptz)`);
});
afterAll(async () => {
  await shop?.end();
  await server?.stop();
});

async function call(action: string, input: Json, changed: Json = {}): Promise<Json> {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const userCredentials = { ...connection, ...changed };
  const answer = await backend.call("__integration", { action, input, config: {}, userCredentials });
  expect(JSON.stringify(answer)).not.toContain("s3cret-word");
  return answer;
}

const query = async (sql: string, parameters?: Json[], more: Json = {}) =>
  (await call("query", { sql, parameters, ...more })).result;
const execute = async (sql: string, parameters?: Json[], more: Json = {}) =>
  (await call("execute", { sql, parameters, ...more })).result;

const ADA = {
  email: "ada@example.com",
  tags: ["a b", 'q"', "ü"],
  born: "1815-12-10",
  extra: { langs: ["en", null], n: 1.5 },
  photo: "AP8Q",
  balance: "12345678.90",
  vip: true,
  seen: "2026-03-01 12:00:00.123456+00",
};

test("what is inserted comes back as it was, exactly", async () => {
  const inserted = await call("insert_rows", { table: "customers", rows: [ADA], returning: ["id"] });
  expect(inserted.result).toEqual({ affected: 1, rows: [{ id: 1 }], truncated: false });
  const found = await query("set timezone = 'UTC'").then(() => query("select * from customers"));
  expect(found.rows).toEqual([{ id: 1, ...ADA, seen: expect.stringContaining("00.123456") }]);
  expect(found.columns).toEqual(["id", "email", "tags", "born", "extra", "photo", "balance", "vip", "seen"]);
  expect(found).toMatchObject({ row_count: 1, truncated: false });
});

test("values are parameters, of any type, lists and JSON too", async () => {
  await call("insert_rows", { table: "customers", rows: [ADA, { email: "'; drop table customers; --", vip: false }] });
  const one = await query("select id from customers where email = $1 and not vip", ["'; drop table customers; --"]);
  expect(one.rows).toEqual([{ id: 2 }]);
  const listed = await query("select id from customers where id = any($1) and vip = any($2) order by id", [
    [1, 2, 3],
    [true, false],
  ]);
  expect(listed.rows).toEqual([{ id: 1 }, { id: 2 }]);
  const json = await query("select $1::jsonb as a, $2::jsonb as b, $3::jsonb as c, $4::text as d, $5::int as e", [
    { x: [true] },
    [1, "two"],
    "text",
    { y: 1 },
    null,
  ]);
  expect(json.rows).toEqual([{ a: { x: [true] }, b: [1, "two"], c: "text", d: '{"y":1}', e: null }]);
});

test("numbers that JSON cannot hold exactly stay texts", async () => {
  const { rows } = await query(
    "select 9007199254740993::bigint as big, 42::bigint as small, 0.1::numeric as exact, 'NaN'::float8 as nan, 2.5::float8 as real",
  );
  expect(rows).toEqual([{ big: "9007199254740993", small: 42, exact: "0.1", nan: "NaN", real: 2.5 }]);
});

test("rows end at the limit, and only then are there more", async () => {
  const numbers = "select generate_series(1, $1) as n";
  expect(await query(numbers, [7], { limit: 7 })).toMatchObject({ row_count: 7, truncated: false });
  expect(await query(numbers, [8], { limit: 7 })).toMatchObject({ row_count: 7, truncated: true });
  expect(await query(numbers, [0])).toEqual({ columns: ["n"], rows: [], row_count: 0, truncated: false });
  expect(await query(numbers, [100_000_000], { limit: 450 })).toMatchObject({ row_count: 450, truncated: true });
});

test("statements that are no SELECT can be queried too, if they only read", async () => {
  expect((await query("show server_encoding")).rows).toEqual([{ server_encoding: "UTF8" }]);
  const plan = await query("explain select * from customers where id = $1", [1]);
  expect(plan.columns).toEqual(["QUERY PLAN"]);
  expect(plan.rows[0]["QUERY PLAN"]).toContain("customers");
  expect((await query("values (1), (2)")).rows).toEqual([{ column1: 1 }, { column1: 2 }]);
  expect((await query("table customers")).rows).toEqual([]);
});

test("an error between two batches is reported", async () => {
  const { error } = await call("query", { sql: "select 1 / (300 - n) as x from generate_series(1, 1000) n" });
  expect(error).toMatchObject({ code: "22012", category: "Validation" });
});

test("an answer stays below what the platform takes", async () => {
  const wide = await query("select repeat('ä', 50000) as text from generate_series(1, 100)");
  expect(wide.truncated).toBe(true);
  expect(wide.row_count).toBeGreaterThan(5);
  const { error } = await call("query", { sql: "select repeat('x', 1000000) as text" });
  expect(error).toMatchObject({ code: "row_too_large", category: "Validation" });
});

test.each([
  ["delete from customers", "25006"],
  ["select nextval('customers_id_seq')", "25006"],
  ["select 1; delete from customers", "42601"],
  ["commit; delete from customers", "42601"],
  ["select set_config('transaction_read_only', 'off', false)", "25001"],
])("query does not run %s", async (sql, code) => {
  const { error } = await call("query", { sql });
  expect(error).toMatchObject({
    code,
    category: "Validation",
    message: expect.stringMatching(/^PostgreSQL refused.+\.$/),
  });
});

test("execute tells how many rows it concerned and gives back what RETURNING says", async () => {
  await call("insert_rows", { table: "customers", rows: [{ email: "a" }, { email: "b" }, { email: "c" }] });
  const sql = "update customers set vip = $1 where email <> $2 returning email";
  expect(await execute(sql, [true, "c"])).toEqual({
    command: "UPDATE",
    affected: 2,
    columns: ["email"],
    rows: [{ email: "a" }, { email: "b" }],
    truncated: false,
  });
  const capped = await execute("delete from customers returning id", [], { limit: 1 });
  expect(capped).toMatchObject({ command: "DELETE", affected: 3, truncated: true });
  expect(capped.rows).toHaveLength(1);
});

test("rows that miss a column get its default, and a wrong row keeps all away", async () => {
  const rows = [{ email: "a", balance: 5 }, { email: "b" }];
  const { result } = await call("insert_rows", { table: "customers", rows, returning: ["email", "balance"] });
  expect(result.rows).toEqual([
    { email: "a", balance: "5.00" },
    { email: "b", balance: "0.00" },
  ]);
  const { error } = await call("insert_rows", { table: "customers", rows: [{ email: "c" }, { email: "a" }] });
  expect(error).toMatchObject({
    code: "23505",
    category: "Validation",
    details: { constraint: "customers_email_key" },
  });
  expect((await query("select count(*) as n from customers")).rows).toEqual([{ n: 2 }]);
});

test("upsert updates what exists, or leaves it", async () => {
  await call("insert_rows", { table: "customers", rows: [{ email: "a", balance: 1 }] });
  const rows = [
    { email: "a", balance: 2 },
    { email: "b", balance: 3 },
  ];
  const upsert = (more: Json = {}) => call("upsert_rows", { table: "customers", rows, key: ["email"], ...more });
  expect((await upsert({ when_exists: "ignore", returning: ["email"] })).result).toMatchObject({
    affected: 1,
    rows: [{ email: "b" }],
  });
  expect((await upsert({ returning: ["balance"] })).result).toMatchObject({
    affected: 2,
    rows: [{ balance: "2.00" }, { balance: "3.00" }],
  });
  expect((await upsert({ key: ["vip"] })).error).toMatchObject({ code: "wrong_rows" });
  expect((await upsert({ key: ["balance"] })).error).toMatchObject({ code: "42P10", category: "Validation" });
  expect((await upsert({ rows: [rows[0], { email: "c" }] })).error.message).toContain("rows[1]");
});

test("names are quoted, whatever they contain", async () => {
  await execute('create table "Odd ""name"" .x" ("a.b" int primary key, "select" text)');
  const table = 'Odd "name" .x';
  const rows = [{ "a.b": 1, select: "x" }];
  expect((await call("upsert_rows", { table, rows, key: ["a.b"], returning: ["a.b"] })).result.rows).toEqual([
    { "a.b": 1 },
  ]);
  expect((await call("describe_table", { table })).result.columns.map(({ name }: Json) => name)).toEqual([
    "a.b",
    "select",
  ]);
});

test("tables are listed and described", async () => {
  await execute(
    "create table orders (id int primary key, customer bigint not null references customers, twice int generated always as (id * 2) stored)",
  );
  await execute("comment on table orders is 'What was sold'");
  await execute("create view big_orders as select * from orders where id > 100");
  const { result } = await call("list_tables", {});
  expect(result.truncated).toBe(false);
  expect(result.tables).toEqual([
    { schema: "public", name: "big_orders", kind: "view", estimated_rows: null, comment: null },
    { schema: "public", name: "customers", kind: "table", estimated_rows: null, comment: null },
    { schema: "public", name: "orders", kind: "table", estimated_rows: null, comment: "What was sold" },
  ]);
  expect((await call("list_tables", { name_contains: "ORDERS", limit: 1 })).result).toMatchObject({ truncated: true });
  expect((await call("list_tables", { schema: "other" })).result.tables).toEqual([]);

  const orders = (await call("describe_table", { table: "orders" })).result;
  expect(orders.columns).toEqual([
    { name: "id", type: "integer", nullable: false, default: null, generated: "no", comment: null },
    { name: "customer", type: "bigint", nullable: false, default: null, generated: "no", comment: null },
    { name: "twice", type: "integer", nullable: true, default: "(id * 2)", generated: "computed", comment: null },
  ]);
  expect(orders).toMatchObject({
    primary_key: ["id"],
    foreign_keys: [{ columns: ["customer"], references: "public.customers", referenced_columns: ["id"] }],
    indexes: ["CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)"],
  });
  const customers = (await call("describe_table", { table: "customers" })).result;
  expect(customers).toMatchObject({
    unique_keys: [["email"]],
    columns: [{ name: "id", generated: "always" }, {}, {}, {}, {}, {}, {}, {}, {}],
  });
  const { error } = await call("describe_table", { table: "Orders" });
  expect(error).toMatchObject({ code: "table_not_found", category: "Validation" });
});

test("a rule that is only checked at COMMIT is reported as any other", async () => {
  await execute("create table once (n int unique deferrable initially deferred)");
  const { error } = await call("insert_rows", { table: "once", rows: [{ n: 1 }, { n: 1 }] });
  expect(error).toMatchObject({ code: "23505", category: "Validation" });
});

test.each([
  ["-- nothing", "no_statement"],
  [" ;\n", "no_statement"],
  ["/* /* nothing */ */", "no_statement"],
  ["copy customers from stdin", "copy_not_supported"],
  ["-- x\n /* y /* z */ */ COPY (select 1) to stdout", "copy_not_supported"],
])("%p is refused instead of waited for", async (sql, code) => {
  for (const action of ["query", "execute"]) {
    expect((await call(action, { sql })).error).toMatchObject({ code, category: "Validation" });
  }
});

test("statements may begin with comments and parentheses", async () => {
  for (const sql of ["-- one\nselect 1 as n;", "/* copy */ select 1 as n", "(select 1 as n)", ";select 1 as n"]) {
    expect((await query(sql)).rows).toEqual([{ n: 1 }]);
  }
});

test("a statement that takes too long is given up", async () => {
  const { error } = await call("query", { sql: "select pg_sleep(20)", timeout_seconds: 1 });
  expect(error).toMatchObject({
    code: "57014",
    category: "Validation",
    message: expect.stringContaining("timeout_seconds"),
  });
});

test("nothing of one call reaches the next", async () => {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const run = (action: string, sql: string) =>
    backend.call("__integration", { action, input: { sql }, config: {}, userCredentials: connection });
  await run("execute", "set search_path = pg_catalog");
  await run("query", "select pg_advisory_lock(1)");
  expect((await run("query", "show search_path")).result.rows).toEqual([{ search_path: '"$user", public' }]);
  expect((await run("query", "select count(*) as n from pg_locks where locktype = 'advisory'")).result.rows).toEqual([
    { n: 0 },
  ]);
});

test.each([
  ["42703", "select nothing_of_that_name", "Validation"],
  ["42P01", "select * from nothing_of_that_name", "Validation"],
  ["22P02", "select 'x'::int", "Validation"],
  ["22012", "select 1/0", "Validation"],
  ["42501", "select * from pg_authid", "Auth"],
  ["25001", "vacuum", "Validation"],
])("%s is reported with its kind and advice", async (code, sql, category) => {
  const { error } = await call("execute", { sql });
  expect(error).toMatchObject({ code, category, message: expect.stringMatching(/^PostgreSQL refused.{30,}\.$/) });
});

test.each([
  [{ password: "wrong" }, "28P01", "Auth"],
  [{ database: "no_such" }, "3D000", "Auth"],
  [{ port: 1 }, "unreachable", "Transient"],
  [{ host: "no-such-host.invalid" }, "unreachable", "Transient"],
  [{ caCertificate: undefined }, "certificate_refused", "Auth"],
  [{ host: "127.0.0.1" }, "certificate_refused", "Auth"],
  [{ host: "a,b" }, "not_configured", "Auth"],
  [{ user: "" }, "not_configured", "Auth"],
])("the connection with %p is refused", async (changed, code, category) => {
  const { error } = await call("query", { sql: "select 1" }, changed);
  expect(error).toMatchObject({ code, category });
});

const ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

test.each([
  [{ tls: "verify-full" }, true],
  [{ tls: "require", host: "127.0.0.1", caCertificate: undefined }, true],
  [{ tls: "disable", host: "127.0.0.1" }, false],
])("with %p the connection is encrypted: %p", async (changed, ssl) => {
  expect((await call("query", { sql: ENCRYPTED }, changed)).result.rows).toEqual([{ ssl }]);
});

test("a server without TLS is refused unless that was allowed", async () => {
  await server.admin`alter system set ssl = off`;
  await server.admin`select pg_reload_conf()`;
  await Bun.sleep(300);
  const { error } = await call("query", { sql: ENCRYPTED });
  expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("offers TLS") });
  await server.admin`alter system set ssl = on`;
  await server.admin`select pg_reload_conf()`;
  await Bun.sleep(300);
});

test("a connection that breaks during COMMIT leaves no invitation to repeat the change", async () => {
  const upstreams = new Map<object, Socket>();
  using proxy = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(client) {
        const upstream = connect(server.port, "127.0.0.1");
        upstream.on("data", (bytes) => client.write(bytes));
        upstreams.set(client, upstream);
      },
      data(client, bytes) {
        const upstream = upstreams.get(client);
        upstream?.write(bytes);
        if (bytes.includes("commit")) client.terminate();
      },
      close: (client) => void upstreams.get(client)?.end(),
    },
  });
  const changed = { host: "127.0.0.1", port: proxy.port, tls: "disable" };
  const { error } = await call("insert_rows", { table: "customers", rows: [{ email: "a" }] }, changed);
  expect(error).toMatchObject({ code: "outcome_unknown", category: "Poison" });
  const read = await call("query", { sql: "select 1" }, changed);
  expect(read.error).toMatchObject({ code: "unreachable", category: "Transient" });
});

test("without a connection the shared database is used, and without both none", async () => {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const ask = (config: Json) =>
    backend.call("__integration", {
      action: "query",
      input: { sql: "select 1 as one" },
      config,
      userCredentials: null,
    });
  expect((await ask(connection)).result.rows).toEqual([{ one: 1 }]);
  expect((await ask({ port: 5432, tls: "verify-full" })).error).toMatchObject({
    code: "not_configured",
    category: "Auth",
  });
});
