// Files that people take away: a ZIP of all masks, a table, single pictures.

/** Hand `blob` to the browser's downloads as `name`. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A table as CSV: fields with commas, quotes or line breaks are quoted. */
export function csv(rows) {
  const field = (value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => row.map(field).join(","));
  return new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv" });
}

/** `files`, [{name, blob}], as one ZIP without compression; PNGs would not get smaller. */
export async function zip(files) {
  const names = new Set();
  const parts = [], directory = [];
  let offset = 0, directorySize = 0;
  for (const { name, blob } of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const path = new TextEncoder().encode(unused(name, names));
    // Version, flags (names are UTF-8), no compression, midnight of 1 January 1980, sizes.
    const facts = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc32(bytes)],
      [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    const local = record(0x04034b50, facts);
    const central = record(0x02014b50, [[2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0],
      [4, offset]]);
    parts.push(local, path, bytes);
    directory.push(central, path);
    offset += local.length + path.length + bytes.length;
    directorySize += central.length + path.length;
  }
  const count = files.length;
  const end = record(0x06054b50, [[2, 0], [2, 0], [2, count], [2, count], [4, directorySize],
    [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** `name`, or `name` with a number if it is among `names`, to which the result is added. */
function unused(name, names) {
  const [, stem, suffix] = name.match(/^(.*?)(\.[^.]*)?$/s);
  let free = name;
  for (let n = 2; names.has(free); n++) free = `${stem} (${n})${suffix ?? ""}`;
  names.add(free);
  return free;
}

/** A signature and [bytes, value] fields, all little-endian. */
function record(signature, fields) {
  const all = [[4, signature], ...fields];
  const bytes = new Uint8Array(all.reduce((sum, [size]) => sum + size, 0));
  let at = 0;
  for (const [size, value] of all) {
    for (let i = 0; i < size; i++) bytes[at++] = value >>> (8 * i);
  }
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}
