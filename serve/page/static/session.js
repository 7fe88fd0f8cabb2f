// What the page knows, and small helpers that all its parts use.

/** cases, each: {name, file, truthFile, state: waiting|running|done|failed, words, status, item,
 *  stop} and once done: width, height, grey, mask, png, seconds, modelSeconds, lesions, missed, body,
 *  point, warning, trainedOn, and with a truth: truth (a comparison) or note (why there is none).
 *  chosen: the case in the viewer. compare: whether a truth is shown where there is one.
 *  model, points, point: as /api tells; the operating point that is asked for, null: its default.
 *  locked: whether the server wants a key that it has not got. */
export const session = {
  cases: [],
  chosen: null,
  compare: true,
  model: {},
  points: {},
  point: null,
  locked: false,
};

export const by = (id) => document.getElementById(id);
export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
export const stem = (name) => name.replace(/\.png$/i, "");

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function duration(seconds) {
  return seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`;
}

/** What the list says of a case. */
export function stateWords(one) {
  if (one.state === "waiting") return session.locked ? "waits for the key" : "waiting";
  if (one.state === "running") return one.words ? "server is busy" : "segmenting …";
  if (one.state === "failed") return "failed";
  const words = [one.lesions.length ? count(one.lesions.length, "lesion") : "no lesion"];
  if (one.truth) words.push(`Dice ${one.truth.dice.toFixed(2)}`);
  return words.join(", ");
}

/** Where truths have names like these, their images may have those. */
const TRUTH_NAMES = [
  [/^(.+?)[ _.-](?:masks?|truth|ground[ _-]?truth|gt|labels?|seg|segmentation)$/i, ["$1"]],
  [/^(?:segmentation|seg|label|mask|truth|gt)[ _.-](.+)$/i,
    ["patient_$1", "image_$1", "scan_$1", "$1"]],
];

/** The stems that the image of a truth called `name` may have; null if it is no truth's name. */
export function imagesOf(name) {
  for (const [pattern, images] of TRUTH_NAMES) {
    if (pattern.test(stem(name))) return images.map((image) => stem(name).replace(pattern, image));
  }
  return null;
}
