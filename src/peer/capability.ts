/**
 * What a node offers, and whether that is enough for an action.
 *
 * Knows nothing about load: whether a node is free is another question.
 */
import { MeshError } from "../base/errors.ts";

/** What one node can do, as it says in its hello. */
export interface Offer {
  readonly slots: number;
  /** Empty when it takes no foreign native task. */
  readonly sandbox: "bwrap" | "unshare" | "none" | "";
  readonly platform: string;
  readonly labels: Readonly<Record<string, string>>;
}

const wasmPlatform = "wasm";
export const labelsMax: number = 32;
const labelValueMaxChars = 256;

/** `process.platform` and `process.arch` as the platform name of actions: "linux/x86_64". */
export function platformName(os: string, arch: string): string {
  const machines: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };
  return `${os}/${machines[arch] ?? arch}`;
}

/**
 * Whether a node can run an action that wants `wanted`: its `platform`, and each further key as a
 * label with exactly that value. `whose` is "foreign" for another node's native action, which
 * needs a sandbox; one's own runs without, as the user's own compiler would.
 */
export function canRun(
  offer: Offer,
  wanted: Readonly<Record<string, string>>,
  whose: "own" | "foreign",
): boolean {
  const { platform, ...labels } = wanted;
  if (platform === undefined || !platformsOf(offer, whose).includes(platform)) return false;
  return Object.entries(labels).every(([key, value]) => offer.labels[key] === value);
}

/** The platforms a node runs, for a steal request: "linux/x86_64", "wasm". */
export function platformsOf(offer: Offer, whose: "own" | "foreign"): readonly string[] {
  if (offer.slots === 0) return [];
  const native = whose === "own" || offer.sandbox !== "";
  return native ? [offer.platform, wasmPlatform] : [wasmPlatform];
}

const labelKey = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Printable, so that a label can be shown as it is. */
export function isLabel(key: string, value: string): boolean {
  return (
    labelKey.test(key) && value.length <= labelValueMaxChars && !/[\p{C}\p{Zl}\p{Zp}]/u.test(value)
  );
}

/** Reads `K=V` from the command line. @throws MeshError "usage" */
export function parseLabels(texts: readonly string[]): Readonly<Record<string, string>> {
  const labels = new Map<string, string>();
  for (const text of texts) {
    const cut = text.indexOf("=");
    const key = text.slice(0, cut);
    const value = text.slice(cut + 1);
    if (cut < 1 || !isLabel(key, value)) {
      throw new MeshError("usage", `not a label: ${JSON.stringify(text)}; write it as gpu=nvidia`);
    }
    labels.set(key, value);
  }
  if (labels.size > labelsMax) {
    throw new MeshError("usage", `${labels.size} labels, at most ${labelsMax} are allowed`);
  }
  return Object.fromEntries(labels);
}
