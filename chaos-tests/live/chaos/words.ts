/** A text for the word count job, and the counts as this file, and not the mesh, counts them. */
import type { SeededRandom } from "../../../src/sim/random.ts";

const letters = "abcdefghijklmnopqrstuvwxyz";

export function makeText(random: SeededRandom, sizeBytes: number): string {
  const vocabulary = Array.from({ length: 200 }, () =>
    Array.from({ length: 2 + random.below(9) }, () => letters[random.below(26)]).join(""),
  );
  const parts: string[] = [];
  for (let length = 0; length < sizeBytes; ) {
    const word = vocabulary[random.below(vocabulary.length)] ?? "word";
    parts.push(word);
    length += word.length + 1;
  }
  return `${parts.join(" ")}\n`;
}

/** Lines `<count> <word>`, most frequent first, then by word: what examples/wordcount gives. */
export function countWords(text: string): string {
  const counts = new Map<string, number>();
  for (const word of text.split(/\s+/)) {
    if (word !== "") counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts]
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .map(([word, count]) => `${count} ${word}\n`)
    .join("");
}
