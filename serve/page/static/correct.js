// What a person does to the mask of an image. All of it can be undone, none of it leaves the page.

import * as edits from "./core/edits.js";
import { groupAt } from "./core/masks.js";
import { FIRST, LARGEST, region } from "./core/region.js";
import { by, drawable, session } from "./session.js";
import { changed, drawThumbnail } from "./worklist.js";

// What was added last, {one, at, extent}, as long as its extent can be changed.
let growing = null;

export const isGrowing = () => growing?.one === session.chosen && growing !== null;
export const extent = () => (isGrowing() ? growing.extent : null);

/** Derive anew what is shown of a case, after a correction, a prediction or a truth. */
export function refresh(one) {
  one.derived = edits.derive(one.prediction, one.history, one.truth);
  drawThumbnail(one);
  changed(one);
}

export function say(words) {
  by("said").textContent = words;
}

/** Put an edit on top; whatever was growing is fixed. */
function correct(one, made) {
  growing = null;
  if (!made) return;
  one.history = edits.push(one.history, made);
  refresh(one);
}

/** Take out the lesion at a pixel, or bring it back; false if there is none. */
export function toggleLesion(one, at) {
  const { states } = one.derived, { width, point } = one.prediction;
  if (!states[at]) return false;
  const out = states[at] === edits.OUT;
  const group = groupAt(states, width, at);
  correct(one, edits.edit(states, group, out ? edits.MARKED : edits.OUT, "toggle", point));
  say(out ? "Brought back." : "Taken out. The same click brings it back.");
  return true;
}

const whole = (reach) => Math.round(Math.min(LARGEST, Math.max(1, reach)));

/** Add what belongs together around a pixel, as far as `reach` pixels away. */
export function addRegion(one, at, reach = FIRST) {
  reach = whole(reach);
  const made = grown(one, at, reach);
  correct(one, made);
  if (!made) {
    say("Nothing stands out here from what is around it. The brush marks it by hand.");
    return;
  }
  growing = { one, at, extent: reach };
  sayExtent();
}

/** The edit that adds a region; null if there is none. */
function grown(one, at, reach) {
  const { prediction, derived } = one;
  const found = region(prediction, at, reach, derived.mask);
  return edits.edit(derived.states, found, edits.MARKED, "add", prediction.point);
}

/** Give what was just added another extent, in pixels. */
export function growTo(reach) {
  if (!growing) return;
  const { one, at } = growing;
  reach = whole(reach);
  if (reach === growing.extent) return;
  const last = one.history;
  one.history = edits.undo(last);
  one.derived = edits.derive(one.prediction, one.history, one.truth);
  const made = grown(one, at, reach);
  one.history = made ? edits.push(one.history, made) : last;
  if (made) growing.extent = reach;
  refresh(one);
  sayExtent();
}

export function growBy(steps) {
  if (growing) growTo(growing.extent + steps);
}

/** Leave what was added as it is. */
export function fix() {
  growing = null;
}

function sayExtent() {
  const { one, extent: reach } = growing;
  const added = one.history.done.at(-1).indexes.length;
  say(`Added ${added} pixels, up to ${reach} from there: + and − for more or less.`);
}

/** Mark or erase the pixels at `indexes`. */
export function brush(one, indexes, erases) {
  const { states } = one.derived;
  const some = erases ? [...indexes].filter((i) => states[i] === edits.MARKED) : indexes;
  const value = erases ? edits.OFF : edits.MARKED;
  correct(one, edits.edit(states, some, value, erases ? "erase" : "brush", one.prediction.point));
}

const withChosen = (action) => () => {
  const one = session.chosen;
  if (drawable(one)) action(one);
};

export const healthy = withChosen((one) => {
  correct(one, edits.healthy(one.derived.states, one.prediction.point));
  say("Reviewed, no tumour. Undo brings everything back.");
});

export const review = withChosen((one) => {
  const { states, reviewed } = one.derived;
  correct(one, edits.edit(states, [], edits.OFF, "review", one.prediction.point, !reviewed));
  say(reviewed ? "Not reviewed." : "Reviewed.");
});

const move = (how, words) => withChosen((one) => {
  growing = null;
  one.history = how(one.history);
  refresh(one);
  say(words);
});
export const undo = move(edits.undo, "Undone.");
export const redo = move(edits.redo, "Done again.");
export const reset = move(edits.undoAll, "As the model drew it. Redo brings corrections back.");
