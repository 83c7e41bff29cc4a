/** The servers that the libraries talk to, outside of any jail: HTTP, HTTPS, WebSocket, SMTP, IMAP. Prints the ports. */
import { SMTPServer } from "smtp-server";

const [key, cert] = process.argv.slice(2).map((path) => Bun.file(path));

function answer(request: Request, server: { upgrade(request: Request): boolean }): Response | undefined {
  if (server.upgrade(request)) return undefined;
  const { pathname } = new URL(request.url);
  if (pathname === "/slack/auth.test") return Response.json({ ok: true, user: "weft" });
  if (pathname === "/drive/v3/files") return Response.json({ files: [{ name: "plan.txt" }] });
  return new Response("hello");
}

/** As much of IMAP4rev1 as a login and a logout take. */
const mailbox: Record<string, (tag: string) => string> = {
  CAPABILITY: (tag) => `* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n${tag} OK done\r\n`,
  LOGIN: (tag) => `${tag} OK [CAPABILITY IMAP4rev1] logged in\r\n`,
  AUTHENTICATE: (tag) => `${tag} OK [CAPABILITY IMAP4rev1] logged in\r\n`,
  LOGOUT: (tag) => `* BYE\r\n${tag} OK done\r\n`,
};

function respond(line: string): string {
  const [tag = "*", verb = ""] = line.split(" ");
  const known = mailbox[verb.toUpperCase()];
  return known ? known(tag) : `${tag} OK done\r\n`;
}

const websocket = {
  message: (socket: { send(text: string): void }, text: string | Buffer) => socket.send(`echo ${text}`),
};
const host = { port: 0, hostname: "127.0.0.1" };
const web = Bun.serve({ ...host, fetch: answer, websocket });
const secure = Bun.serve({ ...host, tls: { key, cert }, fetch: answer, websocket });
const imap = Bun.listen({
  ...host,
  socket: {
    open: (socket) => void socket.write("* OK ready\r\n"),
    data: (socket, data) => {
      for (const line of data.toString().split("\r\n").filter(Boolean)) socket.write(respond(line));
    },
  },
});
const smtp = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS"],
  onData: (stream, _session, done) => void stream.resume().on("end", () => done()),
});
await new Promise<void>((ready) => smtp.listen(0, "127.0.0.1", ready));
const address = smtp.server.address() as { port: number };
console.log(JSON.stringify({ web: web.port, secure: secure.port, imap: imap.port, smtp: address.port }));
