/** Which store is meant, and where in it an object lies: the caller's own connection, or else the shared configuration. */

export interface Settings {
  accessKeyId?: string;
  secretAccessKey?: string;
  sessionToken?: string;
  region?: string;
  endpoint?: string;
  addressing?: "path" | "host";
}

/** What an action needs of its context. */
export interface Access {
  config: Settings;
  userCredentials: Settings | null;
}

export interface Store {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  region: string;
  endpoint: URL;
  addressing: "path" | "host";
}

/** The store to talk to. Throws where something is missing. */
export function storeOf({ config, userCredentials }: Access): Store {
  const settings = userCredentials ?? config;
  const { accessKeyId, secretAccessKey, sessionToken, region = "us-east-1", addressing = "path" } = settings;
  const missing = Object.entries({ accessKeyId, secretAccessKey }).flatMap(([name, value]) => (value ? [] : [name]));
  if (!accessKeyId || !secretAccessKey) throw notConfigured(`${missing.join(", ")} missing`);
  if (!/^[A-Za-z0-9-]{1,64}$/.test(region)) throw notConfigured("region is not the name of a region");
  const endpoint = settings.endpoint || `https://s3.${region}.amazonaws.com`;
  if (!/^https?:\/\/[^/?#@]+\/?$/.test(endpoint) || !URL.canParse(endpoint)) {
    throw notConfigured("endpoint is not an address such as https://s3.example.com");
  }
  return {
    accessKeyId,
    secretAccessKey,
    ...(sessionToken && { sessionToken }),
    region,
    endpoint: new URL(endpoint),
    addressing,
  };
}

/** The address of the store, of a bucket or of an object. */
export function addressOf(store: Store, bucket?: string, key?: string): URL {
  const { protocol, host } = store.endpoint;
  if (bucket === undefined) return new URL(`${protocol}//${host}/`);
  const name = checkedBucket(bucket);
  const path = key === undefined ? "" : encodedKey(key);
  return store.addressing === "host"
    ? new URL(`${protocol}//${name}.${host}/${path}`)
    : new URL(`${protocol}//${host}/${name}${key === undefined ? "" : `/${path}`}`);
}

/** A bucket and a key as they stand in an address, joined. */
export function encodedSource(bucket: string, key: string): string {
  return `/${checkedBucket(bucket)}/${encodedKey(key)}`;
}

/** Percent-encoding as signatures want it: everything but letters, digits and - . _ ~ */
export function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function checkedBucket(bucket: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) return bucket;
  throw invalid("bucket is not the name of a bucket");
}

function encodedKey(key: string): string {
  if (key === "" || Buffer.byteLength(key) > 1024) throw invalid("key must have 1 to 1024 bytes");
  if (!key.isWellFormed()) throw invalid("key is not a valid text");
  const parts = key.split("/");
  // Addresses resolve such parts, however they are encoded: a/../b would become another object, even one in another bucket.
  if (parts.some((part) => part === "." || part === ".."))
    throw invalid("key has a part . or .., which is not supported");
  return parts.map(encoded).join("/");
}

function invalid(what: string): Error {
  return new ActionError(`The object cannot be addressed: ${what}.`, { code: "invalid_name", category: "Validation" });
}

function notConfigured(what: string): Error {
  return new ActionError(
    `The store is not connected: ${what}. Connect one, or save a shared one in the integration's configuration.`,
    { code: "not_configured", category: "Auth" },
  );
}
