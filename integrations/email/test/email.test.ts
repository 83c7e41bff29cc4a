import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { resolve } from "node:path";
import PostalMime from "postal-mime";
import { startedIn } from "../../../js/worker/test/running.ts";
import { CA, type Imap, type Smtp, startImap, startSmtp } from "./servers.ts";

setDefaultTimeout(30_000);

const FOLDER = resolve(import.meta.dir, "..");
const PDF = Buffer.from("%PDF-1.7 not really");
const LARGE = Buffer.alloc(700 * 1024, "0123456789abcdef");

const MESSAGES = [
  {
    internaldate: "01-Mar-2026 10:00:00 +0000",
    raw: lines(
      "From: =?utf-8?q?Gr=C3=A4fin_Lovelace?= <lovelace@example.org>",
      "To: Ada <ada@example.com>, bob@example.com",
      "Cc: carol@example.com",
      "Date: Sun, 01 Mar 2026 09:59:00 +0000",
      "Subject: =?utf-8?b?R3LDvMOfZQ==?=",
      "Message-ID: <1@example.org>",
      "References: <0@example.org>",
      "",
      "Hello",
    ),
  },
  {
    internaldate: "02-Mar-2026 10:00:00 +0000",
    flags: ["\\Seen"],
    raw: lines(
      "From: bob@example.com",
      "Reply-To: list@example.com",
      "To: ada@example.com",
      "Date: Mon, 02 Mar 2026 10:00:00 +0000",
      "Subject: Invoice",
      "Message-ID: <2@example.org>",
      "MIME-Version: 1.0",
      'Content-Type: multipart/mixed; boundary="b"',
      "",
      "--b",
      'Content-Type: multipart/alternative; boundary="c"',
      "",
      "--c",
      "Content-Type: text/plain; charset=iso-8859-1",
      "Content-Transfer-Encoding: quoted-printable",
      "",
      "F=FCr Sie",
      "--c",
      "Content-Type: text/html; charset=utf-8",
      "",
      "<p>Für <b>Sie</b></p>",
      "--c--",
      "--b",
      "Content-Type: application/pdf",
      "Content-Disposition: attachment; filename*=utf-8''Rechnung%20%E2%82%AC.pdf",
      "Content-Transfer-Encoding: base64",
      "",
      PDF.toString("base64"),
      "--b",
      'Content-Type: application/octet-stream; name="large.bin"',
      'Content-Disposition: attachment; filename="large.bin"',
      "Content-Transfer-Encoding: base64",
      "",
      (LARGE.toString("base64").match(/.{1,76}/g) ?? []).join("\r\n"),
      "--b--",
    ),
  },
  { internaldate: "03-Mar-2026 10:00:00 +0000", raw: lines("From: bob@example.com", "Subject: Third", "", "x") },
];

function lines(...of: string[]): string {
  return of.join("\r\n");
}

let smtp: Smtp;
let imap: Imap;
let mailbox: Json;

beforeAll(async () => {
  smtp = await startSmtp();
});
beforeEach(async () => {
  smtp.deliveries.length = 0;
  Object.assign(smtp.trouble, { recipient: undefined, data: undefined });
  imap = await startImap(structuredClone(MESSAGES));
  mailbox = {
    user: "ada@example.com",
    password: "s3cret-word",
    from: "Ada Lovelace <ada@example.com>",
    smtpHost: "localhost",
    smtpPort: smtp.port,
    smtpSecurity: "starttls",
    imapHost: "127.0.0.1",
    imapPort: imap.port,
    imapSecurity: "none",
    caCertificate: CA,
  };
});
afterEach(() => imap.stop());
afterAll(() => smtp.stop());

async function call(action: string, input: Json = {}, changed: Json = {}): Promise<Json> {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const userCredentials = { ...mailbox, ...changed };
  const answer = await backend.call("__integration", { action, input, config: {}, userCredentials });
  expect(JSON.stringify([answer, backend.logs()])).not.toContain("s3cret-word");
  return answer;
}

const send = (input: Json, changed: Json = {}) => call("send_email", input, changed);
const parsed = (index = 0) => PostalMime.parse(smtp.deliveries[index]?.raw ?? "");

test("a message arrives with its text, HTML and attachments, and bcc stays hidden", async () => {
  const { result } = await send({
    to: ["bob@example.com", "Carol <carol@example.com>"],
    bcc: ["hidden@example.com"],
    subject: "Grüße\r\nX-Injected: yes",
    text: "Für Sie",
    html: '<p>Für Sie <img src="cid:logo"></p>',
    reply_to: ["answers@example.com"],
    attachments: [
      { filename: "Rechnung €.pdf", content_base64: PDF.toString("base64") },
      { filename: "logo.png", content_base64: "iVBORw0KGgo=", content_id: "logo" },
    ],
  });
  const everybody = ["bob@example.com", "carol@example.com", "hidden@example.com"];
  expect(result).toEqual({
    message_id: expect.stringMatching(/^<.+@example\.com>$/),
    accepted: everybody,
    rejected: [],
    saved_to: null,
  });
  expect(smtp.deliveries).toEqual([{ from: "ada@example.com", to: everybody, raw: expect.any(String) }]);
  expect(smtp.deliveries[0]?.raw).not.toContain("hidden@example.com");
  const mail = await parsed();
  expect(mail).toMatchObject({
    messageId: result.message_id,
    from: { name: "Ada Lovelace", address: "ada@example.com" },
    to: [{ address: "bob@example.com" }, { name: "Carol", address: "carol@example.com" }],
    replyTo: [{ address: "answers@example.com" }],
    text: "Für Sie\n",
    attachments: [
      { filename: "logo.png", contentId: "<logo>" },
      { filename: "Rechnung €.pdf", mimeType: "application/pdf" },
    ],
  });
  expect(mail.html).toContain("Für Sie");
  expect(mail.subject).toContain("Grüße");
  expect(mail.headers.map(({ key }) => key)).not.toContain("x-injected");
  expect(Buffer.from(mail.attachments[1]?.content as ArrayBuffer)).toEqual(PDF);
});

test("an answer takes recipient, subject and thread from the original", async () => {
  await send({ in_reply_to: { uid: 1 }, text: "Thanks" });
  expect(await parsed()).toMatchObject({
    to: [{ name: "Gräfin Lovelace", address: "lovelace@example.org" }],
    subject: "Re: Grüße",
    inReplyTo: "<1@example.org>",
    references: "<0@example.org> <1@example.org>",
  });
  await send({ in_reply_to: { uid: 1, reply_all: true }, text: "Thanks" });
  expect((await parsed(1)).cc?.map(({ address }) => address)).toEqual(["bob@example.com", "carol@example.com"]);
  await send({ in_reply_to: { uid: 2 }, subject: "Other", text: "Thanks" });
  expect(await parsed(2)).toMatchObject({ to: [{ address: "list@example.com" }], subject: "Other" });
  const { error } = await send({ in_reply_to: { uid: 99 }, text: "Thanks" });
  expect(error).toMatchObject({ code: "email_not_found", category: "Validation" });
  expect(smtp.deliveries).toHaveLength(3);
});

test("a copy goes into the folder for sent messages, and its failure is none of the sending", async () => {
  const { result } = await send({ to: ["bob@example.com"], subject: "Kept", text: "x", save_copy: true });
  expect(result.saved_to).toBe("Gesendet");
  const listed = await call("list_emails", { folder: "Gesendet" });
  expect(listed.result.emails).toMatchObject([{ subject: "Kept", message_id: result.message_id, seen: true }]);
  const without = await send({ to: ["bob@example.com"], text: "x", save_copy: true }, { imapPort: 1 });
  expect(without.result).toMatchObject({ accepted: ["bob@example.com"], saved_to: null });
});

test("recipients that the server refuses are named", async () => {
  const refusal = () => Object.assign(new Error("No such user"), { responseCode: 550 });
  smtp.trouble.recipient = (address) => (address.startsWith("no") ? refusal() : null);
  const { result } = await send({ to: ["bob@example.com", "nobody@example.com"], text: "x" });
  expect(result).toMatchObject({
    accepted: ["bob@example.com"],
    rejected: [{ address: "nobody@example.com", reason: expect.stringContaining("No such user") }],
  });
  const { error } = await send({ to: ["nobody@example.com"], text: "x" });
  expect(error).toMatchObject({
    code: "smtp_550",
    category: "Validation",
    message: expect.stringContaining("No such user"),
  });
  expect(smtp.deliveries).toHaveLength(1);
});

test.each([
  [451, "smtp_451", "Transient"],
  [552, "smtp_552", "Validation"],
])("a message that is refused with %p is reported once", async (responseCode, code, category) => {
  let attempts = 0;
  smtp.trouble.data = () => {
    attempts += 1;
    return Object.assign(new Error("Not this one"), { responseCode });
  };
  const { error } = await send({ to: ["bob@example.com"], text: "x" });
  expect(error).toMatchObject({ code, category, message: expect.stringContaining("Not this one") });
  expect(attempts).toBe(1);
});

test("a connection that breaks after the message leaves no invitation to send it again", async () => {
  let attempts = 0;
  smtp.trouble.data = () => {
    attempts += 1;
    return "hang up";
  };
  const { error } = await send({ to: ["bob@example.com"], text: "x" });
  expect(error).toMatchObject({ code: "outcome_unknown", category: "Poison" });
  expect(attempts).toBe(1);
});

test.each([
  [{ to: ["bob@example.com"] }, "text or html"],
  [{ text: "x" }, "recipient"],
  [{ to: [], text: "x" }, "recipient"],
  [{ to: ["bob@example.com"], cc: ["nobody"], text: "x" }, '"nobody" is not'],
  [{ to: ["bob@example.com, Carol <carol>"], text: "x" }, "is not"],
  [
    { to: ["b@example.com"], text: "x", attachments: [{ filename: "x", content_base64: "A".repeat(14_000_000) }] },
    "attachments",
  ],
])("a message that lacks something is not sent (%#)", async (input, what) => {
  const { error } = await send(input);
  expect(error).toMatchObject({
    code: "invalid_message",
    category: "Validation",
    message: expect.stringContaining(what),
  });
  expect(smtp.deliveries).toEqual([]);
});

test.each([
  [{ password: "wrong" }, "login_refused", "Auth"],
  [{ smtpPort: 1 }, "unreachable", "Transient"],
  [{ smtpHost: "no-such-host.invalid" }, "unreachable", "Transient"],
  [{ smtpSecurity: "tls" }, "unreachable", "Transient"],
  [{ caCertificate: undefined }, "certificate_refused", "Auth"],
  [{ smtpHost: "127.0.0.1" }, "certificate_refused", "Auth"],
  [{ smtpHost: undefined }, "not_configured", "Auth"],
  [{ from: undefined, user: "ada" }, "not_configured", "Auth"],
])("with %p nothing is sent", async (changed, code, category) => {
  const { error } = await send({ to: ["bob@example.com"], text: "x" }, changed);
  expect(error).toMatchObject({ code, category, message: expect.stringMatching(/^The .{30,}\.$/) });
  expect(smtp.deliveries).toEqual([]);
});

test("starttls is demanded, not hoped for", async () => {
  const plain = await startSmtp({ hideSTARTTLS: true, disabledCommands: ["STARTTLS"] });
  const { error } = await send({ to: ["bob@example.com"], text: "x" }, { smtpPort: plain.port });
  expect(error).toMatchObject({ code: "no_tls", category: "Auth" });
  expect(plain.deliveries).toEqual([]);
  plain.stop();
});

test("TLS from the first byte works, and a relay may have a login of its own", async () => {
  const secure = await startSmtp({ secure: true });
  const relay = { smtpUser: "ada@example.com", smtpPassword: "s3cret-word", user: "other", password: "none" };
  const changed = { smtpPort: secure.port, smtpSecurity: "tls", ...relay };
  expect((await send({ to: ["bob@example.com"], text: "x" }, changed)).result.accepted).toEqual(["bob@example.com"]);
  secure.stop();
});

test("folders are listed with what they are for", async () => {
  const { result } = await call("list_folders", { counts: true });
  expect(result.folders.toSorted((a: Json, b: Json) => b.messages - a.messages || (a.path < b.path ? -1 : 1))).toEqual([
    { path: "INBOX", name: "INBOX", special_use: "inbox", messages: 3, unseen: 2 },
    { path: "Archive", name: "Archive", special_use: "archive", messages: 0, unseen: 0 },
    { path: "Gesendet", name: "Gesendet", special_use: "sent", messages: 0, unseen: 0 },
    { path: "Papierkorb", name: "Papierkorb", special_use: "trash", messages: 0, unseen: 0 },
  ]);
});

test("messages are listed newest first, in pages", async () => {
  const first = (await call("list_emails", { limit: 2 })).result;
  expect(first).toMatchObject({ total: 3, next_before_uid: 2, emails: [{ uid: 3, subject: "Third" }, { uid: 2 }] });
  expect(first.emails[0].date).toBe("2026-03-03T10:00:00.000Z");
  expect(first.emails[1]).toEqual({
    uid: 2,
    subject: "Invoice",
    from: [{ name: "", address: "bob@example.com" }],
    to: [{ name: "", address: "ada@example.com" }],
    date: "2026-03-02T10:00:00.000Z",
    message_id: "<2@example.org>",
    seen: true,
    flagged: false,
    answered: false,
    size: expect.any(Number),
    has_attachments: true,
  });
  const second = (await call("list_emails", { limit: 2, before_uid: 2 })).result;
  expect(second).toMatchObject({
    next_before_uid: null,
    emails: [{ uid: 1, subject: "Grüße", has_attachments: false }],
  });
  expect(second.emails[0].from).toEqual([{ name: "Gräfin Lovelace", address: "lovelace@example.org" }]);
});

test.each([
  [{ seen: false }, [3, 1]],
  [{ seen: true }, [2]],
  [{ from: "lovelace" }, [1]],
  [{ from: "bob", subject: "third" }, [3]],
  [{ text: "hello" }, [1]],
  [{ since: "2026-03-02", before: "2026-03-03" }, [2]],
  [{ message_id: "<2@example.org>" }, [2]],
  [{ larger_than: 10_000 }, [2]],
  [{ subject: 'quo"te' }, []],
  [{ flagged: true }, []],
])("the filter %p finds %p", async (filter, uids) => {
  const { result } = await call("list_emails", filter);
  expect(result.emails.map(({ uid }: Json) => uid)).toEqual(uids);
  expect(result.total).toBe(uids.length);
});

test("a message is read with its text and the names of its attachments, and stays unread", async () => {
  const { result } = await call("get_email", { uid: 2 });
  expect(result).toMatchObject({
    uid: 2,
    subject: "Invoice",
    reply_to: [{ name: "", address: "list@example.com" }],
    text: expect.stringMatching(/^Für Sie\s*$/),
    html: expect.stringContaining("<b>Sie</b>"),
    truncated: false,
    attachments: [
      { index: 0, filename: "Rechnung €.pdf", content_type: "application/pdf", size: PDF.length, inline: false },
      { index: 1, filename: "large.bin", content_type: "application/octet-stream", size: LARGE.length, inline: false },
    ],
  });
  const first = (await call("get_email", { uid: 1, max_characters: 3 })).result;
  expect(first).toMatchObject({
    text: "Hel",
    html: null,
    truncated: true,
    attachments: [],
    references: ["<0@example.org>"],
  });
  expect((await call("list_emails", { seen: false })).result.total).toBe(2);
  expect((await call("get_email", { uid: 99 })).error).toMatchObject({
    code: "email_not_found",
    category: "Validation",
  });
});

test("a text of any size fits into the answer", async () => {
  const { error, result } = await call("send_email", { to: ["a@example.com"], text: "x" });
  expect(error ?? result.accepted).toEqual(["a@example.com"]);
  imap.stop();
  imap = await startImap([
    { raw: lines("Subject: long", "Content-Type: text/plain; charset=utf-8", "", "\u0001ä\n".repeat(200_000)) },
  ]);
  const long = await call("get_email", { uid: 1, max_characters: 200_000 }, { imapPort: imap.port });
  expect(long.result.truncated).toBe(true);
  expect(Buffer.byteLength(JSON.stringify(long))).toBeLessThan(1024 * 1024);
});

test("attachments come whole, large ones in parts", async () => {
  const small = (await call("get_attachment", { uid: 2, index: 0 })).result;
  expect(small).toEqual({
    filename: "Rechnung €.pdf",
    content_type: "application/pdf",
    size: PDF.length,
    content_base64: PDF.toString("base64"),
    next_offset: null,
  });
  const one = (await call("get_attachment", { uid: 2, index: 1 })).result;
  const two = (await call("get_attachment", { uid: 2, index: 1, offset: one.next_offset })).result;
  expect(two.next_offset).toBeNull();
  const whole = Buffer.concat([one, two].map(({ content_base64 }) => Buffer.from(content_base64, "base64")));
  expect(whole.equals(LARGE)).toBe(true);
  const { error } = await call("get_attachment", { uid: 2, index: 2 });
  expect(error).toMatchObject({ code: "attachment_not_found", category: "Validation" });
});

test("messages are marked and that is taken back", async () => {
  expect((await call("mark_email", { uids: [1, 3, 99], seen: true, flagged: true })).result).toEqual({ uids: [1, 3] });
  expect((await call("list_emails", { seen: true, flagged: true })).result.total).toBe(2);
  expect((await call("mark_email", { uids: [1], flagged: false })).result).toEqual({ uids: [1] });
  expect((await call("list_emails", { seen: true, flagged: true })).result.emails).toMatchObject([{ uid: 3 }]);
  expect((await call("mark_email", { uids: [1] })).error).toMatchObject({ code: "nothing_to_mark" });
  expect((await call("mark_email", { uids: [99], seen: true })).result).toEqual({ uids: [] });
});

test("messages move, and the new uid is told", async () => {
  const { result } = await call("move_email", { uids: [2, 99], to_folder: "Archive" });
  expect(result).toEqual({ moved: [{ uid: 2, new_uid: 1 }] });
  expect((await call("list_emails", {})).result.emails.map(({ uid }: Json) => uid)).toEqual([3, 1]);
  expect((await call("list_emails", { folder: "Archive" })).result.emails).toMatchObject([
    { uid: 1, subject: "Invoice" },
  ]);
  const { error } = await call("move_email", { uids: [1], to_folder: "Nowhere" });
  expect(error).toMatchObject({ code: "folder_not_found", category: "Validation" });
});

test("deleting means the trash, unless it is to be for good", async () => {
  expect((await call("delete_email", { uids: [1] })).result).toEqual({ uids: [1], moved_to: "Papierkorb" });
  expect((await call("list_emails", { folder: "Papierkorb" })).result.emails).toMatchObject([{ subject: "Grüße" }]);
  const again = await call("delete_email", { folder: "Papierkorb", uids: [1] });
  expect(again.error).toMatchObject({ code: "already_in_trash", category: "Validation" });
  const gone = await call("delete_email", { folder: "Papierkorb", uids: [1], permanently: true });
  expect(gone.result).toEqual({ uids: [1], moved_to: null });
  expect((await call("list_emails", { folder: "Papierkorb" })).result.total).toBe(0);
  expect((await call("list_emails", {})).result.total).toBe(2);
});

test.each([
  [{ password: "wrong" }, "login_refused", "Auth"],
  [{ imapPort: 1 }, "unreachable", "Transient"],
  [{ imapHost: "no-such-host.invalid" }, "unreachable", "Transient"],
  [{ imapHost: "" }, "not_configured", "Auth"],
])("with %p the mailbox cannot be read", async (changed, code, category) => {
  const { error } = await call("list_emails", {}, changed);
  expect(error).toMatchObject({ code, category, message: expect.stringMatching(/^The .{30,}\.$/) });
});

test("a folder that does not exist is named as the fault", async () => {
  const { error } = await call("list_emails", { folder: "Nowhere" });
  expect(error).toMatchObject({ code: "folder_not_found", category: "Validation" });
});

test("IMAP goes over TLS, whose certificate is checked", async () => {
  const secure = await startImap(structuredClone(MESSAGES), { secureConnection: true });
  const changed = { imapPort: secure.port, imapSecurity: "tls", imapHost: "localhost" };
  expect((await call("list_emails", {}, changed)).result.total).toBe(3);
  const { error } = await call("list_emails", {}, { ...changed, caCertificate: undefined });
  expect(error).toMatchObject({ code: "certificate_refused", category: "Auth" });
  secure.stop();
});

test("IMAP's starttls is demanded too", async () => {
  const starttls = { imapSecurity: "starttls", imapHost: "localhost" };
  expect((await call("list_emails", {}, starttls)).result?.total).toBe(3);
  const plain = await startImap(structuredClone(MESSAGES), { plugins: ["SASL-IR", "AUTH-PLAIN"] });
  const { error } = await call("list_emails", {}, { ...starttls, imapPort: plain.port });
  expect(error).toMatchObject({ code: "no_tls", category: "Auth" });
  plain.stop();
});

test("without a connection the shared mailbox is used", async () => {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const call = { action: "list_emails", input: {}, config: mailbox, userCredentials: null };
  expect((await backend.call("__integration", call)).result.total).toBe(3);
});
