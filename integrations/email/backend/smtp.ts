/** Hands one message over. Nothing is tried twice; whether a failure came before the handover or in it is kept apart. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import type { Server } from "./account.ts";
import { outcomeUnknown, smtpError } from "./errors.ts";

export interface Handover {
  from: string;
  to: string[];
  /** The whole message, as it goes over the wire. */
  message: Buffer;
}

export interface Receipt {
  accepted: string[];
  rejected: { address: string; reason: string }[];
}

/** Delivers a message to the server, which takes it for at least one recipient. */
export async function handOver(server: Server, { from, to, message }: Handover): Promise<Receipt> {
  const { connection, broken } = await open(server).catch((error: unknown) => {
    throw smtpError(error, server.host);
  });
  const until = <T>(step: (done: (error?: Error | null, value?: T) => void) => void) =>
    Promise.race([
      broken,
      new Promise<T | undefined>((fine, failed) => step((e, value) => (e ? failed(e) : fine(value)))),
    ]);
  try {
    await until((done) => connection.connect(done));
    if (connection.allowsAuth) {
      await until((done) => connection.login({ credentials: { user: server.user, pass: server.password } }, done));
    }
    const sent = await until<Sent>((done) => connection.send({ from, to }, message, done)).catch((error: Answered) => {
      // An answer of the server is a refusal. Without one, nobody knows.
      throw error.responseCode === undefined && error.code !== "EENVELOPE" ? outcomeUnknown(error) : error;
    });
    connection.quit();
    return receipt(sent, to);
  } catch (error) {
    connection.close();
    throw smtpError(error, server.host);
  }
}

async function open({ host, port, security, ca }: Server) {
  // The library would ask name servers itself; the platform looks names up as the system does.
  const address = isIP(host) ? host : (await lookup(host)).address;
  const connection = new SMTPConnection({
    host: address,
    port,
    secure: security === "tls",
    requireTLS: security === "starttls",
    ignoreTLS: security === "none",
    tls: { ...(isIP(host) === 0 && { servername: host }), ...(ca && { ca }) },
    connectionTimeout: 15_000,
    greetingTimeout: 15_000,
    socketTimeout: 60_000,
  });
  const broken = new Promise<never>((_, failed) => connection.on("error", failed));
  broken.catch(() => {});
  return { connection, broken };
}

interface Answered {
  code?: string | undefined;
  responseCode?: number | undefined;
  response?: string | undefined;
  recipient?: string | undefined;
}

/** What is used of the library's receipt. */
interface Sent {
  accepted: unknown[];
  rejected: unknown[];
  rejectedErrors?: Answered[] | undefined;
}

function receipt(sent: Sent | undefined, to: string[]): Receipt {
  const reasons = new Map(sent?.rejectedErrors?.map(({ recipient, response }) => [recipient, response ?? ""]));
  const rejected = (sent?.rejected ?? []).map(String);
  return {
    accepted: (sent?.accepted ?? to).map(String),
    rejected: rejected.map((address) => ({ address, reason: reasons.get(address) ?? "" })),
  };
}
