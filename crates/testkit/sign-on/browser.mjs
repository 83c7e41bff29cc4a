// A browser for tests: the system's Chromium with a profile of its own, driven by one JSON command per line on stdin.
//
//   node browser.mjs <program>
//
//   {"open": "http://…", "login": "alice"}    opens the page; on a provider's login page logs in as alice
//   {"open": "http://…", "cancel": true}      the same, and refuses there
//   {"open": "http://…"}                      only opens it
//   {"open": "http://…", "steps": [["fill", "Name", "Ann"], ["press", "Add"], ["see", "Ann"]]}
//                                             the same, and then does this: a field by its label, a button by its name, a text
//   {"forget": true}                          forgets all cookies
//
// Each visit is answered, when no page follows any more, with `{"url": …, "status": …, "text": …, "requests": […]}`: where the
// browser ended, what it shows there, and the addresses it went through with their `Referer`.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const profile = await mkdtemp(join(tmpdir(), "weft-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.argv[2],
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

async function visit({ open, login, cancel, steps }) {
  const page = await context.newPage();
  const requests = [];
  page.on("request", (request) => {
    if (request.isNavigationRequest())
      requests.push({ url: request.url(), referer: request.headers().referer ?? null });
  });
  let last;
  page.on("response", (response) => {
    if (response.request().isNavigationRequest()) last = response;
  });
  await page.goto(open);
  if (login ?? cancel) {
    if (cancel) {
      await page.click("text=Cancel");
    } else if (await page.locator("input[name=login]").count()) {
      await page.fill("input[name=login]", login);
      await page.fill("input[name=password]", "any");
      await page.click("button[name=submit]");
    }
    await page.waitForLoadState();
  }
  for (const [what, name, value] of steps ?? []) await perform(page, what, name, value);
  const result = { url: page.url(), status: last?.status() ?? 0, text: await page.textContent("body"), requests };
  await page.close();
  return result;
}

function perform(page, what, name, value) {
  if (what === "fill") return page.getByLabel(name, { exact: true }).fill(value);
  if (what === "press") return page.getByRole("button", { name, exact: true }).click();
  if (what === "see") return page.getByText(name, { exact: true }).first().waitFor();
  throw new Error(`there is no step "${what}"`);
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const work = command.forget ? context.clearCookies() : visit(command);
  console.log(
    JSON.stringify(
      await work.then(
        (answer) => answer ?? {},
        (error) => ({ failed: String(error) }),
      ),
    ),
  );
}
await context.close();
await rm(profile, { recursive: true, force: true });
