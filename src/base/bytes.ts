/** Small byte helpers that several rows share. */

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  let sizeBytes = 0;
  for (const part of parts) sizeBytes += part.byteLength;
  const all = new Uint8Array(sizeBytes);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.byteLength;
  }
  return all;
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Decodes leniently: bytes that are no UTF-8 become U+FFFD. For people, never for paths. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
