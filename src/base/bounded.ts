/** Collections that refuse or forget rather than grow. */

/** A map that keeps the `maxEntries` most recently used entries. */
export interface RecentMap<K, V> {
  readonly size: number;
  get(key: K): V | undefined;
  set(key: K, value: V): void;
  delete(key: K): boolean;
  clear(): void;
  /** Oldest first; a copy, for whatever is looked up meanwhile moves to the end. */
  entries(): readonly (readonly [K, V])[];
}

export function createRecentMap<K, V>(maxEntries: number): RecentMap<K, V> {
  const entries = new Map<K, V>();
  return {
    get size() {
      return entries.size;
    },
    get(key) {
      const value = entries.get(key);
      if (value !== undefined) {
        entries.delete(key);
        entries.set(key, value);
      }
      return value;
    },
    set(key, value) {
      entries.delete(key);
      entries.set(key, value);
      if (entries.size > maxEntries) {
        const oldest = entries.keys().next();
        if (!oldest.done) entries.delete(oldest.value);
      }
    },
    delete: (key) => entries.delete(key),
    clear: () => entries.clear(),
    entries: () => [...entries],
  };
}
