/**
 * A bounded map for look-ups that happen hundreds of times per compile: reading an entry moves
 * nothing. What was not used while half the bound was newly used is forgotten.
 */
export interface TwoAgeMap<K, V> {
  get(key: K): V | undefined;
  set(key: K, value: V): void;
}

export function createTwoAgeMap<K, V>(maxEntries: number): TwoAgeMap<K, V> {
  let young = new Map<K, V>();
  let old = new Map<K, V>();

  function set(key: K, value: V): void {
    young.set(key, value);
    if (young.size * 2 <= maxEntries) return;
    old = young;
    young = new Map();
  }

  return {
    get(key) {
      const value = young.get(key);
      if (value !== undefined) return value;
      const aged = old.get(key);
      if (aged !== undefined) set(key, aged);
      return aged;
    },
    set,
  };
}
