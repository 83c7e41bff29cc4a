/** A backend that makes the same kind of request with one library after the other and says what came of each. */
/// <reference path="../../../../js/worker/globals.d.ts" />
import http from "node:http";
import https from "node:https";
import net from "node:net";
import tls from "node:tls";
import { drive } from "@googleapis/drive";
import { WebClient } from "@slack/web-api";
import axios from "axios";
import got from "got";
import { ImapFlow } from "imapflow";
import nodemailer from "nodemailer";
import postgres from "postgres";
import * as undici from "undici";
import WS from "ws";

/** Where the servers listen, all under the name `vendor.test`. */
type Ports = {
  web: number;
  secure: number;
  smtp: number;
  imap: number;
  database: number;
  login: Record<string, string>;
};
type Check = (ports: Ports) => Promise<unknown>;

const PATIENCE = 10_000;
const agent = { rejectUnauthorized: false };

const get = (library: typeof http | typeof https, url: string) =>
  new Promise<string>((done, fail) => {
    library
      .get(url, agent, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part) => (text += part));
        response.on("end", () => done(text)).on("error", fail);
      })
      .on("error", fail);
  });

const exchange = (socket: net.Socket) =>
  new Promise<string>((done, fail) => {
    socket.on("error", fail).on("data", (data) => {
      done(String(data).split("\r\n")[0] ?? "");
      socket.destroy();
    });
    socket.write("GET / HTTP/1.1\r\nHost: vendor.test\r\n\r\n");
  });

const chat = (socket: WebSocket | WS) =>
  new Promise<string>((done, fail) => {
    socket.onopen = () => socket.send("hi");
    socket.onerror = () => fail(new Error("no connection"));
    socket.onmessage = (event: { data: unknown }) => {
      done(String(event.data));
      socket.close();
    };
  });

async function mail({ smtp }: Ports) {
  const transport = nodemailer.createTransport({
    host: "vendor.test",
    port: smtp,
    tls: agent,
    connectionTimeout: PATIENCE,
  });
  const sent = await transport.sendMail({ from: "a@example.com", to: "b@example.com", subject: "Hi", text: "Hello" });
  return sent.accepted[0];
}

async function inbox({ imap }: Ports) {
  const auth = { user: "ada", pass: "secret" };
  const client = new ImapFlow({
    host: "vendor.test",
    port: imap,
    secure: false,
    doSTARTTLS: false,
    auth,
    logger: false,
  });
  client.on("error", () => {});
  await client.connect();
  const user = client.authenticated;
  await client.logout();
  return user;
}

async function rows({ database, login }: Ports) {
  const sql = postgres({ host: "vendor.test", port: database, ...login, max: 1, connect_timeout: 10 });
  try {
    const [row] = await sql`select 40 + 2 as answer`;
    return row?.answer;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const checks: Record<string, Check> = {
  fetch: async ({ web }) => (await fetch(`http://vendor.test:${web}/`)).text(),
  "fetch over TLS": async ({ secure }) => (await fetch(`https://vendor.test:${secure}/`, { tls: agent })).text(),
  "node:http": ({ web }) => get(http, `http://vendor.test:${web}/`),
  "node:https": ({ secure }) => get(https, `https://vendor.test:${secure}/`),
  axios: async ({ web }) => (await axios.get(`http://vendor.test:${web}/`)).data,
  got: ({ web }) => got(`http://vendor.test:${web}/`, { retry: { limit: 0 } }).text(),
  undici: async ({ web }) => (await undici.request(`http://vendor.test:${web}/`)).body.text(),
  slack: async ({ web }) =>
    (
      await new WebClient("xoxb-test", {
        slackApiUrl: `http://vendor.test:${web}/slack/`,
        retryConfig: { retries: 0 },
      }).auth.test()
    ).user,
  googleapis: async ({ web }) => {
    const google = drive({ version: "v3", auth: "key", rootUrl: `http://vendor.test:${web}/`, retry: false });
    return (await google.files.list()).data.files?.[0]?.name;
  },
  nodemailer: mail,
  imapflow: inbox,
  postgres: rows,
  TCP: ({ web }) => exchange(net.connect(web, "vendor.test")),
  TLS: ({ secure }) => exchange(tls.connect({ port: secure, host: "vendor.test", ...agent })),
  WebSocket: ({ web }) => chat(new WebSocket(`ws://vendor.test:${web}/`)),
  ws: ({ web }) => chat(new WS(`ws://vendor.test:${web}/`)),
};

async function outcome(check: Check, ports: Ports): Promise<unknown> {
  try {
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error("too late")), PATIENCE));
    return await Promise.race([check(ports), late]);
  } catch (error) {
    return { failed: String(error) };
  }
}

// Some libraries report a lost connection a second time, to nobody.
process.on("unhandledRejection", () => {});
process.on("uncaughtException", () => {});

serve({
  rpc: {
    async try(ports: Ports) {
      const said: Record<string, unknown> = {};
      for (const [name, check] of Object.entries(checks)) said[name] = await outcome(check, ports);
      return said;
    },
  },
});
