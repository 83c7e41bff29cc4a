/**
 * What looks like a secret, and how it is kept out of what people read or store. Must not know where the text goes.
 *
 * Two ways to find one: its name (a header, a field, a query parameter), and its value, where the platform handed it over.
 * Numbers stay: `total_tokens` is no secret.
 */

const SECRET_NAME =
  /passw(or)?d|passphrase|^pass$|secret|token|authorization|^auth$|cookie|credential|signature|session-?_?id|jwt|(api|private|access|signing|encryption|subscription)[-_]?key|^key$/i;
/** Shorter values are words that occur anywhere. */
const SHORTEST_SECRET = 6;

/** Replaces secrets by one word. */
export class Scrubber {
  private readonly known = new Set<string>();

  constructor(private readonly word: string) {}

  /** Remembers secret values: every text within `value`, and the ways in which it appears in a URL. */
  learn(value: unknown): void {
    for (const text of textsOf(value)) {
      if (text.length < SHORTEST_SECRET || text === this.word) continue;
      this.known
        .add(text)
        .add(encodeURIComponent(text))
        .add(new URLSearchParams([["", text]]).toString().slice(1));
    }
  }

  /** The text without the values that are known. */
  text(text: string): string {
    let scrubbed = text;
    for (const secret of [...this.known].sort((a, b) => b.length - a.length)) {
      scrubbed = scrubbed.replaceAll(secret, this.word);
    }
    return scrubbed;
  }

  /** The JSON value without texts whose names or values are secret. */
  json(value: unknown, secret = false): unknown {
    if (typeof value === "string") return secret ? this.word : this.text(value);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((item) => this.json(item, secret));
    const entries = Object.entries(value).map(([name, item]) => [name, this.json(item, secret || isSecretName(name))]);
    return Object.fromEntries(entries);
  }

  /** Names and values of a form or a query. */
  form(form: URLSearchParams): URLSearchParams {
    const entries = [...form].map(([name, value]) => [name, isSecretName(name) ? this.word : this.text(value)]);
    return new URLSearchParams(entries as [string, string][]);
  }

  url(address: string): string {
    if (!URL.canParse(address)) return this.text(address);
    const url = new URL(address);
    const { search } = url;
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
