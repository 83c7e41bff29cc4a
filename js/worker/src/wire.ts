/**
 * The two streams of JSON lines. Knows nothing of what the messages mean.
 *
 * Outgoing messages of one turn of the event loop leave in a single write: under load a write per message would cost more than the
 * work itself. Whatever the backend writes to stdout by itself keeps its place in the order, and an unfinished line of
 * its own never swallows one of ours. A message that is too long for the host throws before anything is written. Half a
 * surrogate pair is no text to the host's parser, and becomes a replacement character.
 */

/** The longest line that the host reads, in bytes. */
export const MAX_LINE = 1024 * 1024;

/** JSON escapes surrogates only where their other half is missing; raw JSON of the backend may escape both. */
const ESCAPE = /\\(?:ud[89ab]..\\ud[c-f]..|(ud[89a-f]..)|.)/gi;

export type Message = { type: string; [field: string]: unknown };

const write = process.stdout.write.bind(process.stdout);

let batch = "";
let scheduled = false;
let foreignLineOpen = false;

/** Queues one message. Throws if it is no JSON or longer than the host accepts. */
export function send(message: Message): void {
  const line = wellFormed(JSON.stringify(message));
  const bytes = lengthInBytes(line);
  if (bytes > MAX_LINE) {
    throw new RangeError(`${message.type} of ${bytes} bytes; at most ${MAX_LINE} fit into one message`);
  }
  batch += `${line}\n`;
  if (!scheduled) {
    scheduled = true;
    setImmediate(flush);
  }
}

/** Writes everything queued, then ends the process. */
export function exit(code: number): void {
  flush();
  // An empty line, which the host passes over: a write of nothing would not wait for the ones before it.
  write("\n", () => process.exit(code));
}

/** Lets `process.stdout.write` of the backend and our own messages share one stream. */
export function shareStdout(): void {
  process.stdout.write = ((...args: Parameters<typeof write>) => {
    flush();
    foreignLineOpen = !endsLine(args[0]);
    return write(...args);
  }) as typeof write;
  process.on("exit", flush);
}

/** Calls `onLine` for each complete line of stdin, and `onEnd` when the host has gone. */
export function readLines(onLine: (line: string) => void, onEnd: () => void): void {
  const decoder = new TextDecoder();
  let rest = "";
  process.stdin.on("data", (chunk: string | Uint8Array) => {
    const text = typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = rest + text.slice(start, end);
      rest = "";
      start = end + 1;
      if (line.length > 0) onLine(line);
    }
    rest += text.slice(start);
  });
  process.stdin.once("end", onEnd);
  process.stdin.once("error", onEnd);
}

function flush(): void {
  scheduled = false;
  if (batch.length === 0) return;
  const text = foreignLineOpen ? `\n${batch}` : batch;
  batch = "";
  foreignLineOpen = false;
  write(text);
}

function wellFormed(line: string): string {
  if (!/\\ud/i.test(line)) return line;
  return line.replace(ESCAPE, (found, half) => (half ? "\\ufffd" : found));
}

function lengthInBytes(line: string): number {
  // A UTF-16 unit takes three bytes at most, so counting is needed only near the limit.
  return line.length * 3 <= MAX_LINE ? line.length : Buffer.byteLength(line);
}

function endsLine(chunk: string | Uint8Array): boolean {
  return chunk.length === 0 ? !foreignLineOpen : chunk.at(-1) === "\n" || chunk.at(-1) === 10;
}
