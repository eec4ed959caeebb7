/**
 * Folders as blobs: Directory messages of the Remote Execution API v2, and one Tree message that
 * carries them all, so that a whole input root is fetched in one go.
 */
import type { Digest } from "../base/digest.ts";

/** One thing in an input root. Paths are absolute and normal: no `.`, `..`, `//` or trailing `/`. */
export type TreeEntry =
  | {
      readonly kind: "file";
      readonly path: string;
      readonly digest: Digest;
      readonly executable: boolean;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "directory"; readonly path: string };
