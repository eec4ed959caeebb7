/**
 * What a compiler needs to speak the user's language elsewhere: locale files and message
 * catalogues, so that warnings are the same bytes.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { Disk } from "../host/host.ts";

export interface Locale {
  /** Files to ship; some may not exist. */
  readonly paths: readonly string[];
  /** Where they are looked for; most do not exist. */
  readonly folders: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface Locales {
  /** Undefined when this locale cannot be taken elsewhere. */
  find(env: Readonly<Record<string, string>>, prefix: string): Promise<Locale | undefined>;
}

const categories = [
  "LC_CTYPE",
  "LC_MESSAGES",
  "LC_COLLATE",
  "LC_NUMERIC",
  "LC_TIME",
  "LC_MONETARY",
  "LC_ADDRESS",
  "LC_IDENTIFICATION",
  "LC_MEASUREMENT",
  "LC_NAME",
  "LC_PAPER",
  "LC_TELEPHONE",
];
const localeRoot = "/usr/lib/locale";
/** A larger archive would cost every worker more than it is worth. */
const archiveMaxBytes = 16 * 1024 * 1024;
const catalogues = /^(?:gcc|cpplib|libc|gas|bfd|opcodes|binutils)[\w.-]*\.mo$/;

export function createLocales(disk: Disk): Locales {
  const known = createRecentMap<string, { readonly stamp: string; readonly locale: Locale }>(64);

  /** Whether what was listed is still what is there. */
  const stampOf = (folders: readonly string[]): string =>
    folders.map((folder) => disk.statFollowNow(folder)?.mtimeNs ?? "-").join();

  async function listFiles(folder: string, depth: number): Promise<string[]> {
    const paths: string[] = [];
    for (const { name, kind } of (await disk.list(folder)) ?? []) {
      const path = `${folder}/${name}`;
      if (kind === "directory" && depth > 0) paths.push(...(await listFiles(path, depth - 1)));
      else if (kind !== "directory") paths.push(path);
    }
    return paths;
  }

  return {
    async find(env, prefix) {
      if (env.LOCPATH || env.NLSPATH) return undefined;
      const asked = relevant(env);
      const names = new Set(categories.map((category) => nameFor(asked, category)));
      names.delete("C");
      names.delete("POSIX");
      if (names.size === 0) return { paths: [], folders: [], env: asked };
      if (![...names].every(isPortable)) return undefined;
      const languages = nameFor(asked, "LC_MESSAGES");
      const spoken = isSpoken(languages) ? [...split(asked.LANGUAGE), languages] : [];
      const roots = ["/usr/share/locale", "/usr/share/locale-langpack", `${prefix}/share/locale`];
      const localeFolders = [...names].flatMap(variants).map((name) => `${localeRoot}/${name}`);
      const messageFolders = [...new Set(spoken.flatMap(variants))].flatMap((name) =>
        roots.map((root) => `${root}/${name}/LC_MESSAGES`),
      );
      const archive = [...names].some((name) => !name.startsWith("C."))
        ? `${localeRoot}/locale-archive`
        : undefined;
      if (archive && (disk.statFollowNow(archive)?.sizeBytes ?? 0) > archiveMaxBytes)
        return undefined;
      const key = [...localeFolders, ...messageFolders, archive ?? ""].join("\0");
      const folders = [...localeFolders, ...messageFolders];
      const stamp = stampOf(folders);
      const before = known.get(key);
      if (before?.stamp === stamp) return { ...before.locale, env: asked };
      const paths = ["/usr/share/locale/locale.alias"];
      for (const folder of localeFolders) paths.push(...(await listFiles(folder, 1)));
      for (const folder of messageFolders)
        for (const path of await listFiles(folder, 0))
          if (catalogues.test(path.slice(folder.length + 1))) paths.push(path);
      if (archive !== undefined) paths.push(archive);
      const locale = { paths, folders, env: asked };
      known.set(key, { stamp, locale });
      return locale;
    },
  };
}

function relevant(env: Readonly<Record<string, string>>): Record<string, string> {
  const asked: Record<string, string> = {};
  for (const name of ["LANG", "LANGUAGE", "LC_ALL", ...categories]) {
    const value = env[name];
    if (value !== undefined) asked[name] = value;
  }
  return asked;
}

function nameFor(env: Readonly<Record<string, string>>, category: string): string {
  return env.LC_ALL || env[category] || env.LANG || "C";
}

/** Any other character set would need converters that are loaded at run time. */
function isPortable(name: string): boolean {
  return /^(?:C|[a-z]{2,3}(?:_[A-Z]{2})?)\.(?:UTF-8|utf8|UTF8|utf-8)(?:@[a-z]+)?$/.test(name);
}

function isSpoken(name: string): boolean {
  return name !== "C" && name !== "POSIX" && !name.startsWith("C.");
}

function split(list: string | undefined): string[] {
  return (list ?? "").split(":").filter((name) => /^[\w.@-]+$/.test(name));
}

/** Every name under which the C library looks for a locale: with less and less said. */
function variants(name: string): string[] {
  const [, language = "", territory = "", codeset = "", modifier = ""] =
    /^([a-zA-Z]+)(_[A-Z]+)?(\.[\w-]+)?(@\w+)?$/.exec(name) ?? [];
  const codesets = codeset === "" ? [""] : [codeset, ".UTF-8", ".utf8", ""];
  const names = new Set<string>();
  for (const place of [territory, ""])
    for (const set of codesets)
      for (const suffix of [modifier, ""]) names.add(`${language}${place}${set}${suffix}`);
  return [...names].filter((variant) => variant !== "");
}
