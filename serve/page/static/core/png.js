// PNG files -> grey pixels, the same that the server reads; masks -> PNG; text in PNG files.

import { crc32 } from "./crc32.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GREY = 0, RGB = 2; // colour types
// Only these decide on pixels: no gamma, no colour profile, no orientation, no animation.
const KEPT = new Set(["IHDR", "IDAT", "IEND"]);

/** {width, height, grey: Uint8Array of height*width} of a PNG that the server takes as well.
 *  `ask(blob)` resolves to the server's reading of it, as a plain PNG; it is called where browsers
 *  could read something else. Rejects if it is no image. */
export async function readGrey(blob, ask) {
  const plain = plainPng(await bytesOf(blob));
  if (plain) return decode(plain);
  if (!ask) throw new Error("no plain PNG");
  return readGrey(await ask(blob));
}

/** `bytes` as a PNG of 8 bits without anything but pixels; null if that is not what they are. */
function plainPng(bytes) {
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [bytes.subarray(0, 8)];
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 12 + view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (end > bytes.length || type === "tRNS") return null;
    if (type === "IHDR") {
      const depth = bytes[at + 16], colours = bytes[at + 17];
      if (depth !== 8 || (colours !== GREY && colours !== RGB)) return null;
    }
    if (KEPT.has(type)) parts.push(bytes.subarray(at, end));
    if (type === "IEND") return new Blob(parts, { type: "image/png" });
    at = end;
  }
  return null;
}

async function decode(png) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Uint8Array(width * height);
  for (let i = 0, p = 0; i < grey.length; i++, p += 4) {
    grey[i] = (19595 * data[p] + 38470 * data[p + 1] + 7471 * data[p + 2] + 32768) >> 16;
  }
  return { width, height, grey };
}

/** A mask (not 0 = marked) as the bytes of an RGB PNG of 0 and 255, as the server's masks are, with
 *  `text` in it: {keyword: text}. */
export async function maskPng(mask, width, text) {
  const rows = new Uint8Array((mask.length / width) * (1 + 3 * width));
  for (let i = 0, at = 0; i < mask.length; i++) {
    if (i % width === 0) at++; // in front of each row: not filtered
    if (mask[i]) rows.fill(255, at, at + 3);
    at += 3;
  }
  const packing = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(packing).arrayBuffer());
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, mask.length / width);
  header.set([8, RGB], 8);
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), chunk("IDAT", packed),
    chunk("IEND", new Uint8Array())];
  return withText(await bytesOf(new Blob(parts)), text);
}

/** The bytes of a PNG with `text`, {keyword: text}, behind its header: a Blob. */
export function withText(bytes, text) {
  const chunks = Object.entries(text).map(([keyword, value]) => {
    // Not compressed, of no language.
    return chunk("iTXt", new TextEncoder().encode(`${keyword}\0\0\0\0\0${value}`));
  });
  const header = 8 + 12 + 13;
  return new Blob([bytes.subarray(0, header), ...chunks, bytes.subarray(header)],
    { type: "image/png" });
}

/** {keyword: text} of what `withText` wrote into a PNG; empty for any other file. */
export function textOf(bytes) {
  const found = {};
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 12 + view.getUint32(at);
    if (end > bytes.length) break;
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "iTXt") {
      const [keyword, value] = new TextDecoder().decode(bytes.subarray(at + 8, end - 4))
        .split("\0\0\0\0\0");
      found[keyword] = value;
    }
    at = end;
  }
  return found;
}

export async function bytesOf(blob) {
  return new Uint8Array(await blob.arrayBuffer());
}

function chunk(type, content) {
  const made = new Uint8Array(12 + content.length);
  const view = new DataView(made.buffer);
  view.setUint32(0, content.length);
  made.set(new TextEncoder().encode(type), 4);
  made.set(content, 8);
  view.setUint32(8 + content.length, crc32(made.subarray(4, 8 + content.length)));
  return made;
}
