/**
 * Prints the manifest of a piece: `bun describe.ts <package> <app id> [OAUTH2|CUSTOM_AUTH|…]`. The piece's code is loaded for that,
 * and none of it is called.
 */
import {
  actionsOf,
  authsOf,
  fieldsOf,
  isDynamic,
  isSecret,
  OPTIONS_ACTION,
  type Piece,
  type PieceAction,
  type Property,
  pieceOf,
} from "./piece";

type Schema = Record<string, Json>;

const EFFECTS: Record<string, string> = { READ: "read", SEARCH: "search", WRITE: "write", DESTRUCTIVE: "destructive" };
/** How the names of actions begin that only read, where a piece does not say it. */
const READING = /^(get|list|find|search|read|fetch|retrieve|query|count|lookup)/i;
const DESTROYING = /^(delete|remove|archive|kick|ban|cancel|revoke|trash|purge)/i;

/** The manifest of a piece. `wanted` is the type of the way in to offer, when it has several. */
export function describe(piece: Piece, appId: string, version: string, wanted?: string): Schema {
  const served = actionsOf(piece);
  const actions = [...served].map(([id, action]) => describeAction(piece, id, action));
  if ([...served.values()].some((action) => Object.values(action.props).some(isDynamic))) actions.push(optionsAction());
  return {
    appId,
    name: piece.displayName,
    version,
    type: "integration",
    description: piece.description || `${piece.displayName}, as an action package`,
    ...authOf(piece, appId, wanted),
    actions,
  };
}

function describeAction(piece: Piece, id: string, action: PieceAction): Schema {
  const prefix = `${piece.displayName.toLowerCase()}_`;
  const words = id.startsWith(prefix) ? id.slice(prefix.length) : id;
  const guess = READING.test(words) ? "read" : DESTROYING.test(words) ? "destructive" : "write";
  return {
    id,
    name: action.displayName ?? id,
    description: action.aiMetadata?.description ?? action.description ?? "",
    effect: EFFECTS[action.classification ?? ""] ?? guess,
    inputSchema: objectSchema(action.props, (property) => !isSecret(property) || Boolean(piece.auth)),
    ...(action.outputSchema?.fields && { outputSchema: outputSchema(action.outputSchema.fields) }),
  };
}

function optionsAction(): Schema {
  return {
    id: OPTIONS_ACTION,
    name: "List Options",
    description:
      "List what a property of an action can be, such as the channels one may post to. Its input says which properties are meant.",
    effect: "read",
    inputSchema: {
      type: "object",
      properties: {
        action: { type: "string", description: "Id of the action" },
        property: { type: "string", description: "Name of the property" },
        values: { type: "object", description: "Values of other properties that it depends on" },
        search: { type: "string", description: "Text to search for, where the vendor can" },
      },
      required: ["action", "property"],
      additionalProperties: false,
    },
  };
}

function objectSchema(props: Record<string, Property>, wanted: (property: Property) => boolean): Schema {
  const shown = Object.entries(props ?? {}).filter(([, property]) => property.type !== "MARKDOWN" && wanted(property));
  const required = shown.filter(([, property]) => property.required && property.defaultValue === undefined);
  return {
    type: "object",
    properties: Object.fromEntries(shown.map(([name, property]) => [name, propertySchema(property)])),
    ...(required.length > 0 && { required: required.map(([name]) => name) }),
    additionalProperties: false,
  };
}

function propertySchema(property: Property): Schema {
  const { displayName, description, defaultValue } = property;
  const dynamic = isDynamic(property) ? ` The action ${OPTIONS_ACTION} lists what it can be.` : "";
  const text = `${description ?? ""}${dynamic}`.trim();
  const simple = defaultValue !== undefined && defaultValue !== null && typeof defaultValue !== "function";
  return {
    ...shapeOf(property),
    ...(displayName && { title: displayName }),
    ...(text && { description: text }),
    ...(simple && { default: defaultValue }),
  };
}

function shapeOf(property: Property): Schema {
  switch (property.type) {
    case "NUMBER":
      return { type: "number" };
    case "CHECKBOX":
      return { type: "boolean" };
    case "ARRAY":
      return { type: "array", ...(property.properties && { items: objectSchema(property.properties, () => true) }) };
    case "OBJECT":
    case "DYNAMIC":
      return { type: "object" };
    case "FILE":
      return fileSchema();
    case "STATIC_DROPDOWN":
      return choices(property);
    case "STATIC_MULTI_SELECT_DROPDOWN":
      return { type: "array", items: choices(property) };
    case "MULTI_SELECT_DROPDOWN":
      return { type: "array" };
    case "JSON":
    case "DROPDOWN":
      return {};
    default:
      return { type: "string" };
  }
}

function choices(property: Property): Schema {
  const options = property.options?.options;
  return Array.isArray(options) && options.length > 0
    ? { enum: [...new Set(options.map(({ value }: Json) => value))] }
    : {};
}

function fileSchema(): Schema {
  const content = {
    type: "object",
    properties: { filename: { type: "string" }, base64: { type: "string" }, url: { type: "string", format: "uri" } },
    anyOf: [{ required: ["filename", "base64"] }, { required: ["url"] }],
    additionalProperties: false,
  };
  return { anyOf: [{ type: "string", format: "uri" }, content] };
}

/** Pieces name what comes back without promising its types, so neither does the schema. */
function outputSchema(fields: Json[]): Schema {
  const named = fields.filter((field) => typeof field?.key === "string");
  return { properties: Object.fromEntries(named.map((field) => [field.key, { title: field.label ?? field.key }])) };
}

function authOf(piece: Piece, appId: string, wanted?: string): Schema {
  const auths = authsOf(piece);
  const known = auths.map(({ type }) => type).join(", ");
  // What one can type in works at once; an OAuth app has to be registered first.
  const auth = wanted
    ? auths.find(({ type }) => type === wanted)
    : (auths.find(({ type }) => type !== "OAUTH2") ?? auths[0]);
  if (!auth) {
    if (wanted) throw new Error(`the piece has no way in of the type ${wanted}; it has: ${known || "none"}`);
    return {};
  }
  return auth.type === "OAUTH2"
    ? oauth(auth, appId)
    : { userAuth: { type: "credentials", schema: credentialsSchema(auth) } };
}

function credentialsSchema(auth: Property): Schema {
  const fields = Object.entries(fieldsOf(auth)).filter(([, field]) => field.type !== "MARKDOWN");
  const required = fields.filter(([, field]) => field.required).map(([name]) => name);
  const schema = ([name, field]: [string, Property]) => [
    name,
    {
      ...shapeOf(field),
      label: field.displayName ?? name,
      ...(field.description && { description: field.description }),
      ...(isSecret(field) && { secret: true }),
    },
  ];
  return {
    type: "object",
    properties: Object.fromEntries(fields.map(schema)),
    ...(required.length > 0 && { required }),
  };
}

function oauth(auth: Json, appId: string): Schema {
  const prefix = appId.toUpperCase().replace(/[^A-Z0-9]/g, "_");
  const authorize = new URL(auth.authUrl);
  const extra = { ...Object.fromEntries(authorize.searchParams), ...auth.extra };
  authorize.search = "";
  return {
    configSchema: {
      type: "object",
      properties: {
        clientId: { type: "string", title: "Client ID", platformSecret: `${prefix}_CLIENT_ID` },
        clientSecret: { type: "string", title: "Client secret", platformSecret: `${prefix}_CLIENT_SECRET` },
      },
      required: ["clientId", "clientSecret"],
    },
    userAuth: {
      type: "oauth2",
      authorizeUrl: authorize.href,
      tokenUrl: auth.tokenUrl,
      ...(auth.scope?.length > 0 && { scopes: auth.scope }),
      ...(Object.keys(extra).length > 0 && { extraAuthorizeParams: extra }),
      tokenRequestAuth: auth.authorizationMethod === "HEADER" ? "basic" : "body",
      pkce: Boolean(auth.pkce),
    },
  };
}

if (import.meta.main) {
  const [name = "", appId = "", wanted] = process.argv.slice(2);
  const folder = process.cwd();
  const module = await import(Bun.resolveSync(name, folder));
  const { version } = await Bun.file(Bun.resolveSync(`${name}/package.json`, folder)).json();
  process.stdout.write(`${JSON.stringify(describe(pieceOf(module), appId, version, wanted), null, 2)}\n`);
}
