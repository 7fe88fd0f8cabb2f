// Pixels and what is counted in them. Nothing here knows the page or the server.

// Darker than this is body; what is lighter is noise of the air around it.
const BODY_BELOW = 250;

// What a pixel is in a comparison of mask and truth.
export const NOTHING = 0, HIT = 1, EXTRA = 2, MISSED = 3;

/** Grey pixels of a PNG, decoded as the server does it: transparent over white, luminance.
 *  Resolves to {width, height, grey: Uint8Array of height*width}; rejects if it is no image. */
export async function readGrey(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Uint8Array(width * height);
  for (let i = 0, p = 0; i < grey.length; i++, p += 4) {
    grey[i] = (299 * data[p] + 587 * data[p + 1] + 114 * data[p + 2] + 500) / 1000;
  }
  return { width, height, grey };
}

/** How many pixels are body. */
export function bodyArea(grey) {
  let area = 0;
  for (const value of grey) if (value < BODY_BELOW) area++;
  return area;
}

/** Pixels of each lesion, largest first; pixels that touch at a side or corner are one lesion. */
export function lesionAreas(mask, width) {
  const left = Uint8Array.from(mask);
  const height = mask.length / width;
  const areas = [];
  for (let start = 0; start < left.length; start++) {
    if (!left[start]) continue;
    left[start] = 0;
    const found = [start];
    for (let next = 0; next < found.length; next++) {
      const x = found[next] % width, y = (found[next] - x) / width;
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const neighbour = ny * width + nx;
          if (left[neighbour]) {
            left[neighbour] = 0;
            found.push(neighbour);
          }
        }
      }
    }
    areas.push(found.length);
  }
  return areas.sort((a, b) => b - a);
}

/** {kinds, hit, extra, missed, dice} of two masks of the same size; two empty ones have Dice 1. */
export function compare(mask, truth) {
  const kinds = new Uint8Array(mask.length);
  const count = [0, 0, 0, 0];
  for (let i = 0; i < mask.length; i++) {
    kinds[i] = mask[i] ? (truth[i] ? HIT : EXTRA) : truth[i] ? MISSED : NOTHING;
    count[kinds[i]]++;
  }
  const [, hit, extra, missed] = count;
  const total = 2 * hit + extra + missed;
  return { kinds, hit, extra, missed, dice: total ? (2 * hit) / total : 1 };
}

/** `kinds` without what is surrounded by its own kind at all four sides. */
export function outline(kinds, width) {
  const edge = new Uint8Array(kinds.length);
  for (let i = 0; i < kinds.length; i++) {
    const kind = kinds[i], x = i % width;
    const inside = x > 0 && x < width - 1 && kinds[i - width] === kind &&
      kinds[i + width] === kind && kinds[i - 1] === kind && kinds[i + 1] === kind;
    if (kind && !inside) edge[i] = kind;
  }
  return edge;
}
