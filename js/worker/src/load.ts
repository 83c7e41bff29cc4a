/**
 * Evaluates the entry point, and says in plain words why one could not be loaded. Must not know about the wire.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { messageOf, readable, stackOf } from "./errors.ts";

const MAX_PROBLEMS = 10;
/** Of a stack, which begins with the message. */
const MAX_FRAMES = 8192;

/** Imports the entry point, given relative to the working directory. */
export async function load(entryPoint: string): Promise<void> {
  const path = resolve(entryPoint);
  if (!(await Bun.file(path).exists())) {
    throw new Error(`the entry point ${entryPoint} does not exist in the app's folder`);
  }
  await import(pathToFileURL(path).href);
}

/** Name, message and place of a failure to load; for compile errors one paragraph per problem. */
export function describe(thrown: unknown): string {
  return readable(() => describeAll(thrown));
}

function describeAll(thrown: unknown): string {
  const { errors } = (thrown ?? {}) as { errors?: unknown };
  const problems = thrown instanceof AggregateError && Array.isArray(errors) ? [...errors] : [thrown];
  const shown = problems.slice(0, MAX_PROBLEMS).map((problem) => readable(() => describeOne(problem)));
  if (problems.length > MAX_PROBLEMS) shown.push(`… and ${problems.length - MAX_PROBLEMS} more`);
  return shown.join("\n");
}

function describeOne(thrown: unknown): string {
  if (thrown instanceof BuildMessage) return describeBuild(thrown);
  if (thrown instanceof ResolveMessage) return `ResolveMessage: ${relative(thrown.message)}`;
  if (!(thrown instanceof Error)) return `the entry point threw ${typeof thrown}: ${String(thrown)}`;
  const place = firstFrame(stackOf(thrown).slice(-MAX_FRAMES));
  return `${thrown.name}: ${messageOf(thrown)}${place ? ` (at ${place})` : ""}`;
}

function describeBuild({ message, position }: BuildMessage): string {
  if (!position) return `BuildMessage: ${message}`;
  const place = `${relative(position.file)}:${position.line}:${position.column}`;
  return `BuildMessage: ${message} (at ${place})\n    ${position.lineText.trim().slice(0, 200)}`;
}

function firstFrame(stack: string): string | undefined {
  const frames = [...stack.matchAll(/^\s+at (?:.*\()?(\/[^)\n]*:\d+:\d+)\)?$/gm)].map((match) => match[1] ?? "");
  const own = frames.find((frame) => frame.startsWith(`${process.cwd()}/`) && !frame.includes("/node_modules/"));
  return relative(own ?? frames[0] ?? "") || undefined;
}

function relative(text: string): string {
  return text.replaceAll(`${process.cwd()}/`, "");
}
