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

/** All pixels of the value at `start` that touch it, at a side or corner, directly or over others:
 *  an array of indexes. `left` (uint8) gets 0 where they are. */
function take(left, width, start) {
  const height = left.length / width, value = left[start];
  const group = [start];
  left[start] = 0;
  for (let next = 0; next < group.length; next++) {
    const x = group[next] % width, y = (group[next] - x) / width;
    const right = Math.min(width - 1, x + 1), bottom = Math.min(height - 1, y + 1);
    for (let ny = Math.max(0, y - 1); ny <= bottom; ny++) {
      for (let nx = Math.max(0, x - 1); nx <= right; nx++) {
        const neighbour = ny * width + nx;
        if (left[neighbour] !== value) continue;
        left[neighbour] = 0;
        group.push(neighbour);
      }
    }
  }
  return group;
}

/** The pixels of the group at `start` in `map`, where 0 is no group. */
export function groupAt(map, width, start) {
  return map[start] ? take(map.slice(), width, start) : [];
}

/** Groups of pixels of the same value that touch, at a side or corner, the largest first.
 *  Each: {value, start, area, box: [left, top, right, bottom], met, highest}. `start` is one of its
 *  pixels; `right` and `bottom` are outside; `met`: whether a pixel is marked in `other` as well;
 *  `highest`: of `probability` in the group, 0 to 255, or null. */
export function lesions(map, width, other = null, probability = null) {
  const left = map.slice();
  const found = [];
  for (let start = 0; start < left.length; start++) {
    const value = left[start];
    if (!value) continue;
    const box = [width, Infinity, 0, 0];
    let met = false, highest = 0;
    const group = take(left, width, start);
    for (const i of group) {
      const x = i % width, y = (i - x) / width;
      met ||= Boolean(other?.[i]);
      if (probability) highest = Math.max(highest, probability[i]);
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
    }
    highest = probability ? highest : null;
    found.push({ value, start, area: group.length, box, met, highest });
  }
  return found.sort((a, b) => b.area - a.area);
}

/** {kinds, tp, fp, fn, dice} of two masks of the same size; two empty ones have Dice 1. */
export function compare(mask, truth) {
  const kinds = new Uint8Array(mask.length);
  let tp = 0, fp = 0, fn = 0;
  for (let i = 0; i < kinds.length; i++) {
    if (mask[i]) {
      if (truth[i]) {
        kinds[i] = TP;
        tp++;
      } else {
        kinds[i] = FP;
        fp++;
      }
    } else if (truth[i]) {
      kinds[i] = FN;
      fn++;
    }
  }
  const total = 2 * tp + fp + fn;
  return { kinds, tp, fp, fn, dice: total ? (2 * tp) / total : 1 };
}

/** `values` with what `palette` has for each, 0 for none: uint8, and much faster than a map. */
export function recoloured(values, palette) {
  const made = new Uint8Array(values.length), table = new Uint8Array(256);
  table.set(palette);
  for (let i = 0; i < made.length; i++) made[i] = table[values[i]];
  return made;
}

/** `kinds` without what is surrounded by its own kind at all four sides. */
export function outline(kinds, width) {
  const edge = new Uint8Array(kinds.length);
  for (let i = 0; i < kinds.length; i++) {
    const kind = kinds[i];
    if (!kind) continue;
    const x = i % width;
    const inside = x > 0 && x < width - 1 && kinds[i - width] === kind &&
      kinds[i + width] === kind && kinds[i - 1] === kind && kinds[i + 1] === kind;
    if (!inside) edge[i] = kind;
  }
  return edge;
}
