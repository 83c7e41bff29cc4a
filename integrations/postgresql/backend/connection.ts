/** Which database is meant: the one of the caller's connection, or else the shared one of the configuration. */

export interface Connection {
  host?: string;
  port?: number;
  database?: string;
  user?: string;
  password?: string;
  tls?: "verify-full" | "require" | "disable";
  caCertificate?: string;
}

export interface Database {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
  /** What the library takes as `ssl`. */
  tls: false | { rejectUnauthorized: boolean; host: string; ca?: string };
}

/** What an action needs of its context. */
export interface Access {
  config: Connection;
  userCredentials: Connection | null;
}

/** The database to talk to. Throws where something is missing. */
export function databaseOf({ config, userCredentials }: Access): Database {
  const given = userCredentials ?? config;
  const { host, port = 5432, database, user, password = "" } = given;
  const missing = Object.entries({ host, database, user }).flatMap(([name, value]) => (value ? [] : [name]));
  if (!host || !database || !user) throw notConfigured(`${missing.join(", ")} missing`);
  // Anything else the library would take for a socket's path or a list of hosts.
  if (!/^[A-Za-z0-9._:-]+$/.test(host)) throw notConfigured("host is not a name or an address");
  return { host, port, database, user, password, tls: tlsOf(host, given) };
}

function tlsOf(host: string, { tls = "verify-full", caCertificate }: Connection): Database["tls"] {
  if (tls === "disable") return false;
  return { rejectUnauthorized: tls !== "require", host, ...(caCertificate && { ca: caCertificate }) };
}

function notConfigured(what: string): Error {
  return new ActionError(
    `PostgreSQL is not connected: ${what}. Connect a database, or save a shared one in the integration's configuration.`,
    { code: "not_configured", category: "Auth" },
  );
}
