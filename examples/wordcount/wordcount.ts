// Counts words: a job for `mesh run`, in AssemblyScript.
//
// Build: npx asc wordcount.ts -O3 --runtime stub --use abort= --noExportRuntime -o wordcount.wasm
//
// split cuts the text into pieces of about 64 KiB at white space, execute counts the words of one
// piece, merge adds the counts up. A count is a line `<count> <word>`, most frequent first.

const pieceBytes: i32 = 64 * 1024;

export function alloc(size: i32): usize {
  return heap.alloc(size);
}

function pack(start: usize, size: usize): i64 {
  return (<i64>start << 32) | <i64>size;
}

function isSpace(byte: u8): bool {
  return byte == 32 || (byte >= 9 && byte <= 13);
}

export function split(start: usize, size: i32): i64 {
  const pieces = size / pieceBytes + 1;
  const out = heap.alloc(<usize>(size + 4 * pieces));
  let written: usize = 0;
  let from: i32 = 0;
  while (from < size) {
    let to = min(from + pieceBytes, size);
    while (to < size && !isSpace(load<u8>(start + to))) to++;
    store<u32>(out + written, to - from);
    memory.copy(out + written + 4, start + from, to - from);
    written += 4 + (to - from);
    from = to;
  }
  return pack(out, written);
}

export function execute(start: usize, size: i32): i64 {
  const counts = new Map<string, u32>();
  let at: i32 = 0;
  while (at < size) {
    while (at < size && !isWord(load<u8>(start + at))) at++;
    const from = at;
    while (at < size && isWord(load<u8>(start + at))) {
      store<u8>(start + at, lower(load<u8>(start + at)));
      at++;
    }
    if (at > from) add(counts, String.UTF8.decodeUnsafe(start + from, at - from), 1);
  }
  return write(counts);
}

export function merge(start: usize, size: i32): i64 {
  const counts = new Map<string, u32>();
  let at: i32 = 0;
  while (at < size) {
    const end = at + 4 + load<u32>(start + at);
    at += 4;
    while (at < end) {
      let count: u32 = 0;
      while (load<u8>(start + at) != 32) count = count * 10 + (load<u8>(start + at++) - 48);
      const from = ++at;
      while (load<u8>(start + at) != 10) at++;
      add(counts, String.UTF8.decodeUnsafe(start + from, at - from), count);
      at++;
    }
  }
  return write(counts);
}

// Letters, digits, and every byte of a letter beyond ASCII.
function isWord(byte: u8): bool {
  return (byte >= 97 && byte <= 122) || (byte >= 65 && byte <= 90) || (byte >= 48 && byte <= 57) || byte >= 128;
}

function lower(byte: u8): u8 {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}

function add(counts: Map<string, u32>, word: string, count: u32): void {
  counts.set(word, counts.has(word) ? counts.get(word) + count : count);
}

function write(counts: Map<string, u32>): i64 {
  const words = counts.keys();
  const lines = new Array<Line>(words.length);
  for (let i = 0; i < words.length; i++) lines[i] = new Line(words[i], counts.get(words[i]));
  lines.sort((a, b) => (a.count != b.count ? (a.count < b.count ? 1 : -1) : a.word < b.word ? -1 : 1));
  const texts = new Array<string>(lines.length);
  for (let i = 0; i < lines.length; i++) texts[i] = lines[i].count.toString() + " " + lines[i].word + "\n";
  const text = texts.join("");
  const bytes = String.UTF8.encode(text);
  return pack(changetype<usize>(bytes), bytes.byteLength);
}

class Line {
  constructor(
    public word: string,
    public count: u32,
  ) {}
}
