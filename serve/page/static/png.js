// PNG files -> grey pixels, the same that the server reads.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GREY = 0, RGB = 2; // colour types
// Only these decide on pixels: no gamma, no colour profile, no orientation, no animation.
const KEPT = new Set(["IHDR", "IDAT", "IEND"]);

/** {width, height, grey: Uint8Array of height*width} of a PNG that the server takes as well.
 *  `ask(blob)` resolves to the server's reading of it, as a plain PNG; it is called where browsers
 *  could read something else. Rejects if it is no image. */
export async function readGrey(blob, ask) {
  const plain = plainPng(new Uint8Array(await blob.arrayBuffer()));
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
