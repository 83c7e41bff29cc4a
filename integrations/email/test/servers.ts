/** A mail server of the tests' own: real SMTP and IMAP, with and without TLS, in the test's process. */
import { readFileSync } from "node:fs";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
// @ts-expect-error: has no types
import hoodiecrow from "hoodiecrow-imap";
import { SMTPServer } from "smtp-server";

const tlsFile = (name: string) => readFileSync(join(import.meta.dir, "tls", name), "utf8");
export const CA = tlsFile("ca.pem");
const TLS = { key: tlsFile("server-key.pem"), cert: tlsFile("server.pem") };

export interface Delivery {
  from: string;
  to: string[];
  raw: string;
}

export interface Smtp {
  port: number;
  deliveries: Delivery[];
  /** Set to answer, or to break off, otherwise than with success. */
  trouble: {
    recipient?: ((address: string) => Error | null) | undefined;
    data?: (() => Error | "hang up") | undefined;
  };
  stop(): void;
}

export async function startSmtp(options: Json = {}): Promise<Smtp> {
  const deliveries: Delivery[] = [];
  const trouble: Smtp["trouble"] = {};
  const server = new SMTPServer({
    ...TLS,
    authOptional: false,
    size: 20 * 1024 * 1024,
    onAuth: ({ username, password }: Json, _: Json, done: (error: Error | null, answer?: Json) => void) =>
      username === "ada@example.com" && password === "s3cret-word"
        ? done(null, { user: username })
        : done(Object.assign(new Error("Username and password not accepted"), { responseCode: 535 })),
    onRcptTo: ({ address }: Json, _: Json, done: (error?: Error | null) => void) =>
      done(trouble.recipient?.(address) ?? null),
    onData(stream: NodeJS.ReadableStream, session: Json, done: (error?: Error | null) => void) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const failure = trouble.data?.();
        if (failure === "hang up") return connections.get(session.id)?.close();
        if (failure) return done(failure);
        const { mailFrom, rcptTo } = session.envelope;
        const to = rcptTo.map(({ address }: Json) => address);
        deliveries.push({ from: mailFrom.address, to, raw: Buffer.concat(chunks).toString() });
        done();
      });
    },
    ...options,
  });
  const connections = {
    get: (id: string) => [...server.connections].find((connection: Json) => connection.id === id),
  };
  server.on("error", () => {});
  const port = await listening(server.listen(0, "127.0.0.1"));
  return { port, deliveries, trouble, stop: () => server.close() };
}

export interface Imap {
  port: number;
  stop(): void;
}

const PLUGINS = [
  "ID",
  "STARTTLS",
  "SASL-IR",
  "AUTH-PLAIN",
  "NAMESPACE",
  "UNSELECT",
  "ENABLE",
  "CONDSTORE",
  "SPECIAL-USE",
  "CREATE-SPECIAL-USE",
  "LITERALPLUS",
  "UIDPLUS",
  "MOVE",
];

/** A mailbox with these messages in INBOX, whose uids are 1, 2 … */
export async function startImap(messages: Json[], options: Json = {}): Promise<Imap> {
  const server = hoodiecrow({
    plugins: PLUGINS,
    users: { "ada@example.com": { password: "s3cret-word" } },
    credentials: TLS,
    storage: {
      INBOX: { messages },
      "": {
        separator: "/",
        folders: {
          Archive: { "special-use": "\\Archive" },
          Papierkorb: { "special-use": "\\Trash" },
          Gesendet: { "special-use": "\\Sent" },
        },
      },
    },
    ...options,
  });
  const port = await listening(server.server, () => server.listen(0, "127.0.0.1"));
  return { port, stop: () => server.server.close() };
}

function listening(server: Server, begin = () => {}): Promise<number> {
  return new Promise((ready) => {
    const port = () => ready((server.address() as AddressInfo).port);
    if (server.listening) return port();
    server.once("listening", port);
    begin();
  });
}
