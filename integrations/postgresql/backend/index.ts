/** PostgreSQL: queries and changes a database of the customer's own. */
import type { Connection } from "./connection.ts";
import { execute, query } from "./statements.ts";
import { describeTable, listTables } from "./tables.ts";
import { insertRows, upsertRows } from "./writing.ts";

defineIntegration<Connection, Connection>({
  actions: {
    query,
    execute,
    list_tables: listTables,
    describe_table: describeTable,
    insert_rows: insertRows,
    upsert_rows: upsertRows,
  },
});
