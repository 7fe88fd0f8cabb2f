// ZIP files, packed and unpacked.

import { crc32 } from "./crc32.js";

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50; // what these records begin with

/** `files`, [{name, blob}], as one ZIP without compression; PNGs would not get smaller.
 *  `comment`: ASCII, kept in the ZIP. */
export async function zip(files, comment = "") {
  const names = new Set();
  const parts = [], directory = [];
  let offset = 0, directorySize = 0;
  for (const { name, blob } of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const path = new TextEncoder().encode(unused(name, names));
    // Version, flags (names are UTF-8), no compression, midnight of 1 January 1980, sizes.
    const facts = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc32(bytes)],
      [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    const local = record(LOCAL, facts);
    const central = record(CENTRAL, [[2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0],
      [4, offset]]);
    parts.push(local, path, bytes);
    directory.push(central, path);
    offset += local.length + path.length + bytes.length;
    directorySize += central.length + path.length;
  }
  const count = files.length;
  const end = record(END, [[2, 0], [2, 0], [2, count], [2, count], [4, directorySize],
    [4, offset], [2, comment.length]]);
  return new Blob([...parts, ...directory, end, comment], { type: "application/zip" });
}

/** What is in a ZIP: {files: [{name, blob}], comment}. Folders are left out. Rejects with an Error
 *  if it is none, or packed as only few programs do. */
export async function unzip(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const [u16, u32] = [(at) => view.getUint16(at, true), (at) => view.getUint32(at, true)];
  const text = (at, length) => new TextDecoder().decode(bytes.subarray(at, at + length));
  const files = [];
  try {
    let end = bytes.length - 22; // the directory's end is last, behind it is at most a comment
    while (u32(end) !== END) end--;
    let at = u32(end + 16);
    for (let count = u16(end + 10); count > 0; count--) {
      if (u32(at) !== CENTRAL) throw new Error();
      const [method, packed, local] = [u16(at + 10), u32(at + 20), u32(at + 42)];
      const name = text(at + 46, u16(at + 28));
      at += 46 + u16(at + 28) + u16(at + 30) + u16(at + 32);
      if (name.endsWith("/")) continue;
      const start = local + 30 + u16(local + 26) + u16(local + 28);
      const content = new Blob([bytes.subarray(start, start + packed)]);
      files.push({ name, blob: await unpack(content, method) });
    }
    return { files, comment: text(end + 22, u16(end + 20)) };
  } catch {
    throw new Error("this is no ZIP that can be read here; unpack it and add what is in it");
  }
}

async function unpack(blob, method) {
  if (method === 0) return blob;
  if (method !== 8) throw new Error();
  return new Response(blob.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
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
