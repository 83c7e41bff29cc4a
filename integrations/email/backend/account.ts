/** Whose mailbox is meant: the one of the caller's connection, or else the shared one of the configuration. */

export type Security = "tls" | "starttls" | "none";

export interface Settings {
  user?: string;
  password?: string;
  from?: string;
  smtpHost?: string;
  smtpPort?: number;
  smtpSecurity?: Security;
  smtpUser?: string;
  smtpPassword?: string;
  imapHost?: string;
  imapPort?: number;
  imapSecurity?: Security;
  caCertificate?: string;
}

/** What an action needs of its context. */
export interface Access {
  config: Settings;
  userCredentials: Settings | null;
  log?: Pick<Log, "warn">;
}

export interface Server {
  host: string;
  port: number;
  security: Security;
  user: string;
  password: string;
  /** Certificates of an authority of the server's own. */
  ca?: string;
}

/** The server for sending. Throws where something is missing. */
export function smtpServer(access: Access): Server {
  const settings = settingsOf(access);
  const { smtpHost, smtpPort = 465, smtpSecurity = "tls", smtpUser, smtpPassword, user, password } = settings;
  const login = smtpUser ? { user: smtpUser, password: smtpPassword } : { user, password };
  return server({ smtpHost }, smtpHost, smtpPort, smtpSecurity, login, settings);
}

/** The server for reading. Throws where something is missing. */
export function imapServer(access: Access): Server {
  const settings = settingsOf(access);
  const { imapHost, imapPort = 993, imapSecurity = "tls", user, password } = settings;
  return server({ imapHost }, imapHost, imapPort, imapSecurity, { user, password }, settings);
}

/** Who appears as the sender, unless a message says otherwise. */
export function senderOf(access: Access): string {
  const { from, user } = settingsOf(access);
  const sender = from || user;
  if (!sender?.includes("@")) throw notConfigured("the sender's address (from) is missing");
  return sender;
}

function settingsOf({ config, userCredentials }: Access): Settings {
  return userCredentials ?? config;
}

function server(
  named: Record<string, string | undefined>,
  host: string | undefined,
  port: number,
  security: Security,
  login: { user: string | undefined; password: string | undefined },
  { caCertificate }: Settings,
): Server {
  const { user, password } = login;
  const missing = Object.entries({ ...named, user, password }).flatMap(([name, value]) => (value ? [] : [name]));
  if (!host || !user || !password) throw notConfigured(`${missing.join(", ")} missing`);
  return { host, port, security, user, password, ...(caCertificate && { ca: caCertificate }) };
}

function notConfigured(what: string): Error {
  return new ActionError(
    `The mailbox is not connected: ${what}. Connect a mailbox, or save a shared one in the integration's configuration.`,
    { code: "not_configured", category: "Auth" },
  );
}
