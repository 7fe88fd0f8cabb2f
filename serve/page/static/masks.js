// Masks and what is counted in them. Nothing here knows the page or the server.

// Darker than this is body; what is lighter is noise of the air around it.
const BODY_BELOW = 250;

// What a pixel is in a comparison of mask and truth.
export const NOTHING = 0, TP = 1, FP = 2, FN = 3;

/** How many pixels are body. */
export function bodyArea(grey) {
  let area = 0;
  for (const value of grey) if (value < BODY_BELOW) area++;
  return area;
}

/** Groups of marked pixels, largest first: {area, box: [left, top, right, bottom], met}.
 *  Pixels that touch at a side or corner are one group; `right` and `bottom` are outside.
 *  `met`: whether a pixel of the group is marked in `other` as well. */
export function lesions(mask, width, other = null) {
  const left = Uint8Array.from(mask);
  const height = mask.length / width;
  const found = [];
  for (let start = 0; start < left.length; start++) {
    if (!left[start]) continue;
    left[start] = 0;
    const group = [start];
    const box = [width, height, 0, 0];
    let met = false;
    for (let next = 0; next < group.length; next++) {
      const x = group[next] % width, y = (group[next] - x) / width;
      met ||= Boolean(other?.[group[next]]);
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const neighbour = ny * width + nx;
          if (left[neighbour]) {
            left[neighbour] = 0;
            group.push(neighbour);
          }
        }
      }
    }
    found.push({ area: group.length, box, met });
  }
  return found.sort((a, b) => b.area - a.area);
}

/** {kinds, tp, fp, fn, dice} of two masks of the same size; two empty ones have Dice 1. */
export function compare(mask, truth) {
  const kinds = new Uint8Array(mask.length);
  const count = [0, 0, 0, 0];
  for (let i = 0; i < mask.length; i++) {
    kinds[i] = mask[i] ? (truth[i] ? TP : FP) : truth[i] ? FN : NOTHING;
    count[kinds[i]]++;
  }
  const [, tp, fp, fn] = count;
  const total = 2 * tp + fp + fn;
  return { kinds, tp, fp, fn, dice: total ? (2 * tp) / total : 1 };
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
