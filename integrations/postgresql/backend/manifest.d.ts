// Made from manifest.json by `weft types`; changes are lost.

interface IntegrationManifest {
  postgresql: {
    config: {
      /** PEM. For verify-full where the server's certificate comes from an authority of its own, as at most hosters. */
      caCertificate?: string;
      database?: string;
      /** Name or address of the server, without port */
      host?: string;
      password?: string;
      port: number;
      /** verify-full encrypts and checks the certificate and its name; require encrypts without a check, so whoever sits in between can read along; disable sends everything, the data too, unencrypted. */
      tls: "verify-full" | "require" | "disable";
      /** A login with the least rights */
      user?: string;
    };
    actions: {
      /** Run a statement that only reads and get its rows */
      query: {
        input: {
          /** Most rows to return */
          limit?: number;
          /** Values of $1, $2 … in order */
          parameters?: unknown[];
          /** One statement, with $1, $2 … for values */
          sql: string;
          /** When the server gives the statement up */
          timeout_seconds?: number;
        };
        output: {
          /** Names in the statement's order */
          columns: string[];
          /** How many rows are returned here */
          row_count: number;
          rows: Record<string, unknown>[];
          /** Whether there are more rows than are returned */
          truncated: boolean;
        };
      };
      /** Run any one statement in a transaction: change or delete rows, change tables */
      execute: {
        input: {
          /** Most rows to return; the statement works on all */
          limit?: number;
          /** Values of $1, $2 … in order */
          parameters?: unknown[];
          /** One statement, with $1, $2 … for values; RETURNING gives rows back */
          sql: string;
          /** When the server gives the statement up; nothing is changed then */
          timeout_seconds?: number;
        };
        output: {
          /** How many rows the statement concerned */
          affected: number;
          columns: string[];
          /** UPDATE, DELETE, CREATE … */
          command: string;
          /** What RETURNING gave */
          rows: Record<string, unknown>[];
          /** Whether RETURNING gave more rows than are returned */
          truncated: boolean;
        };
      };
      /** List tables and views with their estimated size */
      list_tables: {
        input: {
          limit?: number;
          /** Only names with this text in them */
          name_contains?: string;
          /** Only this schema; absent: all but the system's */
          schema?: string;
        };
        output: {
          tables: {
            comment?: string | null;
            /** null: never counted by the server */
            estimated_rows?: number | null;
            kind: "table" | "partitioned table" | "view" | "materialized view" | "foreign table";
            name: string;
            schema: string;
          }[];
          truncated: boolean;
        };
      };
      /** Get the columns, keys and indexes of a table or view */
      describe_table: {
        input: {
          schema?: string;
          /** Name without schema, in its true case */
          table: string;
        };
        output: {
          columns: {
            comment?: string | null;
            /** Expression of the default or of a generated column */
            default?: string | null;
            /** always and computed: cannot be given */
            generated?: "no" | "always" | "by default" | "computed";
            name: string;
            nullable: boolean;
            type: string;
          }[];
          foreign_keys: {
            columns: string[];
            referenced_columns: string[];
            /** schema.table */
            references: string;
          }[];
          /** Their definitions */
          indexes: string[];
          name: string;
          primary_key: string[];
          schema: string;
          unique_keys: string[][];
        };
      };
      /** Add rows to a table, all or none */
      insert_rows: {
        input: {
          /** Columns to return of each row, such as its id */
          returning?: string[];
          /** Values by column; a column that a row does not name gets its default */
          rows: Record<string, unknown>[];
          schema?: string;
          /** Name without schema, in its true case */
          table: string;
        };
        output: {
          /** How many rows were added */
          affected: number;
          /** What returning asked for */
          rows: Record<string, unknown>[];
          truncated: boolean;
        };
      };
      /** Add rows to a table, or update those that exist, all or none */
      upsert_rows: {
        input: {
          /** Columns that tell whether a row exists: the primary key or a unique key (describe_table) */
          key: string[];
          /** Columns to return of each added or updated row */
          returning?: string[];
          /** Values by column. All rows must name the same columns, those of key among them, and no two the same key. */
          rows: Record<string, unknown>[];
          schema?: string;
          /** Name without schema, in its true case */
          table: string;
          /** Whether an existing row gets the new values or stays as it is */
          when_exists?: "update" | "ignore";
        };
        output: {
          /** How many rows were added or updated */
          affected: number;
          /** What returning asked for */
          rows: Record<string, unknown>[];
          truncated: boolean;
        };
      };
    };
  };
}
