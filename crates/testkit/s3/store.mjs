// A store that speaks S3, with one bucket. Takes commands as lines of JSON and ends when its input does.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import S3rver from "s3rver";

const SUFFIX = "._S3rver_object";
const directory = mkdtempSync(join(tmpdir(), "weft-s3-"));
const store = new S3rver({
  directory,
  silent: true,
  configureBuckets: [{ name: process.argv[2] }],
  address: "127.0.0.1",
});
await store.configureBuckets();
const handle = store.callback();
let paused = false;

const server = http.createServer((request, response) => {
  if (!paused) return handle(request, response);
  response.writeHead(503).end();
});
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ endpoint: `http://127.0.0.1:${server.address().port}` }));
});

function keys(bucket) {
  const root = join(directory, bucket);
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const names = files.map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)));
  return names
    .filter((name) => name.endsWith(SUFFIX) && !name.startsWith("."))
    .map((name) => name.slice(0, -SUFFIX.length));
}

const commands = createInterface({ input: process.stdin });
commands.on("line", (line) => {
  const command = JSON.parse(line);
  if ("pause" in command) paused = command.pause;
  console.log(JSON.stringify(command.keys ? { keys: keys(command.keys) } : {}));
});
commands.on("close", () => {
  rmSync(directory, { recursive: true, force: true });
  process.exit(0);
});
