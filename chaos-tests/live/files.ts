/** What lies in folders: for live tests, and for what runs outside of a test. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Every file below a folder whose name `wanted` matches, with its bytes. */
export async function snapshot(folder: string, wanted: RegExp): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && wanted.test(entry.name))
      files.set(path.slice(folder.length + 1), await readFile(path));
  }
  return files;
}

/** Files that a node puts beside an output's place for a moment, and that nobody took away. */
export async function leftovers(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder, { recursive: true });
  return names.filter((name) => /(^|\/)\.mesh/.test(name));
}
