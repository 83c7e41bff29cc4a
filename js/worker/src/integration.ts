/**
 * The global `defineIntegration`: turns named actions and webhooks into the RPC methods that the platform calls.
 * Knows nothing of messages or processes.
 */
import { PlatformActionError } from "./errors.ts";
import { serveIntegration } from "./serve.ts";

type Fields = Partial<IntegrationCall>;
type Step = (call: Json, ctx: IntegrationContext) => unknown;

/** The global `defineIntegration`. */
export function defineIntegration(definition: IntegrationDefinition): void {
  // JavaScript's authors may write null for what they have not got.
  const { actions, webhooks } = definition;
  const offered = { actions: Object.keys(actions ?? {}), webhooks: Object.keys(webhooks ?? {}) };
  serveIntegration(handlersOf(definition), nameOf, offered);
}

/** The methods are the platform's, so people know only what they are called with, or what they are for. */
function nameOf(method: string, params: Json): string {
  if (method === "__integration") return `the action \`${params?.action}\``;
  if (method === "__webhook") return `the webhook \`${params?.name}\``;
  return `\`${{ __bind: "bind", __auth_start: "authStart", __auth_callback: "authCallback" }[method] ?? method}\``;
}

/** The handlers that make an integration. */
export function handlersOf(definition: IntegrationDefinition): Handlers {
  const { actions = {}, webhooks, bind, authStart, authCallback, onStart, onShutdown } = definition;
  const rpc: Record<string, RpcHandler> = {
    __integration: (call: IntegrationCall, caller, ctx) =>
      pick(actions as Record<string, Step>, call.action, "action")(call.input ?? {}, extend(ctx, caller, call)),
  };
  if (webhooks) {
    rpc.__webhook = (call: WebhookCall, caller, ctx) =>
      pick(webhooks, call.name, "webhook")(call, extend(ctx, caller, call));
  }
  if (bind) rpc.__bind = step(bind);
  if (authStart) rpc.__auth_start = step(authStart);
  if (authCallback) rpc.__auth_callback = step(authCallback);
  return { rpc, ...(onStart && { onStart }), ...(onShutdown && { onShutdown }) };
}

function step(handler: Step): RpcHandler {
  return (call, caller, ctx) => handler(call, extend(ctx, caller, call));
}

function pick<H>(handlers: Record<string, H>, name: string, kind: "action" | "webhook"): H {
  const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined;
  if (handler !== undefined) return handler;
  const known = Object.keys(handlers).join(", ") || "none";
  throw new PlatformActionError(`unknown ${kind}: ${name} (this integration has: ${known})`, {
    code: `unknown_${kind}`,
    category: "Validation",
  });
}

function extend(ctx: Context, caller: Caller | null, call: Fields): IntegrationContext {
  return {
    ...ctx,
    caller,
    config: call.config ?? {},
    userCredentials: call.userCredentials ?? null,
    userId: call.userId ?? null,
    connectionId: call.connectionId ?? null,
    connectionWay: call.connectionWay ?? null,
    currentCredentials: () => ctx.selfAction("user_credentials"),
    updateCredentials: (credentials: Json) => ctx.selfAction("update_credentials", { credentials }),
  };
}
