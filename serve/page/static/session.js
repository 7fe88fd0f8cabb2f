// What the page knows, and small helpers that all its parts use.

/** cases, each: {name, file, truthFile, maskFile, phantom, state: waiting|running|done|failed,
 *  words, status, item, stop, history: edits (core/edits.js), savedEdit: the last one that is in a
 *  file} and once done: prediction: {mask, probability, width, height, grey, point}, which never
 *  changes; derived: what edits.js makes of it; seconds, modelSeconds, body, warning, trainedOn,
 *  truthMask (of truthFile), note: why a truth or a mask is not used.
 *  chosen: the case in the viewer. view: what is asked to be drawn: mask|outline|truth|probability.
 *  model, version, points, point: as /api tells; the operating point that is asked for, null: its
 *  default. locked: whether the server wants a key that it has not got. */
export const session = {
  cases: [],
  chosen: null,
  view: "mask",
  model: {},
  version: "",
  points: {},
  point: null,
  locked: false,
};

export const by = (id) => document.getElementById(id);
export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
export const stem = (name) => name.replace(/\.png$/i, "");
export const drawable = (one) => Boolean(one?.derived) && one.state !== "failed";
/** Whether a case is an image; else it is a truth or mask that waits for its image. */
export const isImage = (one) => Boolean(one.file);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function duration(seconds) {
  return seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`;
}

/** A probability of 0 to 255 in words. */
export function percent(value) {
  const share = Math.round((100 * value) / 255);
  return value && !share ? "< 1 %" : `${share} %`;
}

/** What the list says of a case. */
export function stateWords(one) {
  if (one.state === "waiting") return session.locked ? "waits for the key" : "waiting";
  if (one.state === "running") return one.words ? "server is busy" : "segmenting …";
  if (one.state === "failed") return "failed";
  const { count: number, comparison, changed, reviewed } = one.derived;
  const words = [number ? count(number, "lesion") : reviewed ? "no tumour" : "no lesion"];
  if (comparison) words.push(`Dice ${comparison.dice.toFixed(2)}`);
  if (reviewed) words.push("reviewed");
  else if (changed) words.push("corrected");
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
