/**
 * From the errors of both protocols to what the platform and its callers understand. Servers' own sentences are passed on, since
 * only they say what is wrong with an address or a folder; the libraries' errors are not, for they may hold a login.
 */

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ALTNAME|ERR_TLS/;

/** What both libraries put into their errors, as far as it is used here. */
interface MailError {
  code?: string | undefined;
  message?: string;
  /** SMTP's reply code. */
  responseCode?: number | undefined;
  response?: unknown;
  authenticationFailed?: boolean;
  mailboxMissing?: boolean;
  tlsFailed?: boolean;
  serverResponseCode?: string;
  responseText?: string;
  cause?: unknown;
}

/** An error of IMAP as the error that the action fails with. Errors of this code come back unchanged. */
export function imapError(thrown: unknown, host: string): unknown {
  if (thrown instanceof ActionError || !(thrown instanceof Error)) return thrown;
  const error = thrown as MailError;
  const said = clean(error.responseText ?? "");
  if (error.authenticationFailed) return loginRefused("IMAP", said);
  if (error.mailboxMissing || error.serverResponseCode === "NONEXISTENT" || error.serverResponseCode === "TRYCREATE") {
    return noSuchFolder();
  }
  if (error.code === "ETHROTTLE") {
    return new ActionError("The IMAP server wants fewer requests. Try again later.", {
      code: "throttled",
      category: "RateLimited",
    });
  }
  if (said && !error.tlsFailed) return imapRefused(said, error.serverResponseCode);
  return connectionError(error, "IMAP", host);
}

/** An error of SMTP before the message was handed over. */
export function smtpError(thrown: unknown, host: string): unknown {
  if (thrown instanceof ActionError || !(thrown instanceof Error)) return thrown;
  const error = thrown as MailError;
  const said = clean(String(error.response ?? ""));
  if (error.code === "EAUTH") return loginRefused("SMTP", said);
  if (error.responseCode === undefined || error.code === "ETLS") return connectionError(error, "SMTP", host);
  const later = error.responseCode < 500;
  const advice = later ? "Try again later." : "Check recipients, sender and size of the message.";
  return new ActionError(`The SMTP server refused the message: ${said} ${advice}`, {
    code: `smtp_${error.responseCode}`,
    category: later ? "Transient" : "Validation",
  });
}

/** The connection broke while the message was handed over. Not transient, so that nobody sends it twice blindly. */
export function outcomeUnknown({ code = "no code" }: MailError): Error {
  return new ActionError(
    `The connection to the SMTP server broke while the message was handed over (${code}): it may or may not have been sent. Look into the folder for sent messages before sending it again.`,
    { code: "outcome_unknown", category: "Poison" },
  );
}

export function noSuchFolder(): Error {
  return new ActionError("The mailbox has no such folder. See list_folders for the paths.", {
    code: "folder_not_found",
    category: "Validation",
  });
}

export function noSuchEmail(uid: number): Error {
  return new ActionError(`The folder has no message ${uid}. It may have been moved or deleted; see list_emails.`, {
    code: "email_not_found",
    category: "Validation",
  });
}

/** Where the library only says that a command did not work. */
export function imapRefused(said: string, code?: string): Error {
  return new ActionError(`The IMAP server refused: ${said} Check folders and rights of the mailbox.`, {
    code: code?.toLowerCase() ?? "imap_refused",
    category: code === "UNAVAILABLE" || code === "INUSE" ? "Transient" : "Validation",
  });
}

function loginRefused(protocol: string, said: string): Error {
  return new ActionError(
    `The ${protocol} server refused the login: ${said || "no reason given."} Check user and password; many providers want an app password, and ${protocol} switched on in the account's settings.`,
    { code: "login_refused", category: "Auth" },
  );
}

function connectionError({ code, message = "", cause, tlsFailed }: MailError, protocol: string, host: string): Error {
  const reasons = [code, (cause as MailError | undefined)?.code].filter(
    (reason): reason is string => typeof reason === "string",
  );
  if (reasons.some((reason) => CERTIFICATE.test(reason)) || /certificate|altnames/i.test(message)) {
    return new ActionError(
      `The certificate of ${host} was not accepted (${reasons.at(-1) ?? "no code"}). Use the host name that the certificate names, and save caCertificate if the server has an authority of its own.`,
      { code: "certificate_refused", category: "Auth" },
    );
  }
  if (tlsFailed || code === "ETLS") {
    return new ActionError(
      `The ${protocol} server ${host} does not encrypt with starttls. Use its port for tls (SMTP 465, IMAP 993).`,
      { code: "no_tls", category: "Auth" },
    );
  }
  return new ActionError(
    `The ${protocol} server ${host} could not be reached (${reasons[0] ?? "no answer"}). Check host, port and encryption: ports 465 and 993 are tls, 587 and 143 are starttls.`,
    { code: "unreachable", category: "Transient" },
  );
}

/** One sentence of at most 300 characters. */
function clean(said: string): string {
  const line = said.replaceAll(/\s+/g, " ").trim().slice(0, 300);
  return line === "" || /[.!?]$/.test(line) ? line : `${line}.`;
}
