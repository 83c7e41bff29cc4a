/**
 * What looks like a secret, and how it is kept out of what people read or store. Must not know where the text goes.
 *
 * Two ways to find one: its name (a header, a field, a query parameter), and its value, where the platform handed it over or,
 * in recordings, where it had such a name elsewhere.
 * Numbers stay: `total_tokens` is no secret.
 */

const SECRET_NAME =
  /passw(or)?d|passphrase|^pass$|secret|token|authorization|^auth$|cookie|credential|signature|session-?_?id|jwt|(api|private|access|signing|encryption|subscription)[-_]?key|^key$/i;
/** Shorter values are words that occur anywhere. */
const SHORTEST_SECRET = 6;
/** In JSON as often the key of a map, or of an issue, which then is in the addresses of others: hidden, but not learned. */
const AMBIGUOUS_NAME = /^key$/i;
/** Values under the name of a secret that are none: a `token_type` is "bearer", a `token_endpoint` an address, a limit of tokens a number. */
const NO_SECRET = /^[A-Z]?[a-z_]{0,14}$|^\d+$|^https?:\/\//;
/** What stands before the secret in `Authorization`. */
const SCHEME = /^(basic|bearer|bot|ssws|[\w-]*(token|key)) +/i;
/** Names of fields, which are no secrets even if a test's stand-in for one reads like them. */
const FIELD = /^[a-z_-]*$/i;
/** A parameter of an address, wherever in a text the address is; what ends a sentence is not part of it. */
const PARAMETER = /([?#&](?:amp;)?)([^=&#?/\s"'<>\\]+)=([^&#\s"'<>\\]*[^&#\s"'<>\\).,;:!?])/g;
const PASSWORD = /(:\/\/[^/?#@:\s"'<>]*):([^/?#@\s"'<>]+)@/g;

/** Replaces secrets by one word. */
export class Scrubber {
  /** The longest first, since one may be part of another. */
  private known = new Set<string>();

  constructor(private readonly word: string) {}

  /** Remembers secret values: every text within `value`, and the ways in which it appears in a URL. */
  learn(value: unknown): void {
    const { size } = this.known;
    for (const text of textsOf(value)) {
      if (text.length < SHORTEST_SECRET || this.word.includes(text)) continue;
      this.known
        .add(text)
        .add(encodeURIComponent(text.toWellFormed()))
        .add(new URLSearchParams([["", text]]).toString().slice(1));
    }
    if (this.known.size > size) this.known = new Set([...this.known].sort((a, b) => b.length - a.length));
  }

  /** The text without the values that are known, and without the secrets of addresses in it. */
  text(text: string): string {
    let scrubbed = text
      .replace(PARAMETER, (whole, before, name, value) => {
        if (!isSecretName(name)) return whole;
        return `${before}${name}=${this.hide(new URLSearchParams(`=${value}`).get("") ?? value)}`;
      })
      .replace(PASSWORD, (_, before, password) => `${before}:${this.hide(decoded(password))}@`);
    for (const secret of this.known) scrubbed = scrubbed.replaceAll(secret, this.word);
    return scrubbed;
  }

  /** The JSON value without texts whose names or values are secret. */
  json(value: unknown, secret: Secrecy = "none"): unknown {
    if (typeof value === "string") return this.field(value, secret);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((item) => this.json(item, secret));
    const entries = Object.entries(value).map(([name, item]) => {
      return [FIELD.test(name) ? name : this.text(name), this.json(item, secret === "none" ? secrecyOf(name) : secret)];
    });
    return Object.fromEntries(entries);
  }

  private field(value: string, secret: Secrecy): string {
    if (secret === "hidden") return this.word;
    return secret === "learned" ? this.hide(value) : this.text(value);
  }

  /** Names and values of a form or a query. */
  form(form: URLSearchParams): URLSearchParams {
    const entries = [...form].map(([name, value]) => [name, isSecretName(name) ? this.hide(value) : this.text(value)]);
    return new URLSearchParams(entries as [string, string][]);
  }

  url(address: string): string {
    if (!URL.canParse(address)) return this.text(address);
    const url = new URL(address);
    const { search } = url;
    this.hide(decoded(url.password));
    url.username = "";
    url.password = "";
    url.search = "";
    const bare = this.text(url.href);
    if (search.length < 2) return bare;
    // A bracket in every replaced value would otherwise be hard to read.
    const query = this.form(new URLSearchParams(search))
      .toString()
      .replaceAll(encodeURIComponent(this.word), this.word);
    return `${bare}?${query}`;
  }

  /** What is put in the place of a value with the name of a secret. */
  protected hide(_value: string): string {
    return this.word;
  }
}

/** What has the name of a secret once is taken out everywhere from then on. */
export class LearningScrubber extends Scrubber {
  /** The value of a header; of a secret one it learns the secret alone, without scheme or attributes. */
  header(name: string, value: string): string {
    if (!isSecretName(name)) return this.text(value);
    if (!name.includes("cookie")) return this.hide(value);
    // What follows the first pair of `set-cookie` says how long and where the cookie is good.
    const pairs = value.split(/; */).slice(0, name === "set-cookie" ? 1 : undefined);
    for (const pair of pairs) this.hide(pair.slice(pair.indexOf("=") + 1));
    return super.hide(value);
  }

  protected override hide(value: string): string {
    const secret = value.replace(SCHEME, "");
    if (!NO_SECRET.test(secret)) this.learn(secret);
    return super.hide(value);
  }
}

/** What the name of a JSON field says of its value. */
type Secrecy = "none" | "hidden" | "learned";

function secrecyOf(name: string): Secrecy {
  if (AMBIGUOUS_NAME.test(name)) return "hidden";
  return isSecretName(name) ? "learned" : "none";
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** The values of a configuration that its manifest calls secret. */
export function secretFields(manifest: Json, config: Json): unknown[] {
  const properties: Record<string, Json> = manifest?.configSchema?.properties ?? {};
  const names = Object.keys(properties).filter((name) => properties[name]?.platformSecret !== undefined);
  return names.map((name) => config?.[name]);
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(textsOf) : [];
}
