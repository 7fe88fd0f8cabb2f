// A person's corrections of a mask. Nothing here knows the page: a prediction never changes, a
// history is a stack of edits with its redo, and `derive` makes from both all that is shown.
//
// An edit is {indexes: Uint32Array, before: Uint8Array, after: Uint8Array, kind, point, reviewed}.
// `before` and `after` are the states of these pixels; `point` is the operating point at which it
// was made; `reviewed` is whether it says that the image was reviewed, null if it says nothing.

import { compare, groupAt, lesions, recoloured } from "./masks.js";

// What a pixel is: not marked, marked, or taken out and shown as an outline.
export const OFF = 0, MARKED = 1, OUT = 2;

export const EMPTY = Object.freeze({ done: [], undone: [] });

/** An edit that gives the pixels at `indexes` the state `value`; null if it would change nothing.
 *  `states` is uint8 H*W; `reviewed`: see above. */
export function edit(states, indexes, value, kind, point, reviewed = null) {
  const changed = Uint32Array.from(indexes).filter((i) => states[i] !== value);
  if (!changed.length && reviewed === null) return null;
  const before = Uint8Array.from(changed, (i) => states[i]);
  return { indexes: changed, before, after: new Uint8Array(changed.length).fill(value), kind, point,
    reviewed };
}

/** All lesions of `states` taken out: no tumour here, and somebody has looked. */
export function healthy(states, point) {
  return edit(states, marked(states), OUT, "healthy", point, true);
}

/** The edit that makes of `states` the `mask` (uint8 H*W, not 0 = marked) that a person made
 *  earlier. All that either marks is decided, so that it also holds at other operating points. */
export function loaded({ mask: drawn, width, point }, states, mask, reviewed) {
  const after = mask.map((value) => (value ? MARKED : OFF));
  for (const lesion of lesions(drawn, width, mask)) {
    if (!lesion.met) for (const i of groupAt(drawn, width, lesion.start)) after[i] = OUT;
  }
  const decided = states.map((state, i) => (state || drawn[i] || mask[i] ? MARKED : OFF));
  const indexes = Uint32Array.from(marked(decided));
  const at = (values) => Uint8Array.from(indexes, (i) => values[i]);
  return { indexes, before: at(states), after: at(after), kind: "loaded", point, reviewed };
}

/** Indexes of the pixels that are MARKED. */
export function marked(states) {
  const found = [];
  for (let i = 0; i < states.length; i++) if (states[i] === MARKED) found.push(i);
  return found;
}

/** `history` with one more edit on top; what was undone can't be redone any more. */
export function push({ done }, one) {
  return { done: [...done, one], undone: [] };
}

export function undo({ done, undone }) {
  return done.length ? { done: done.slice(0, -1), undone: [...undone, done.at(-1)] }
    : { done, undone };
}

export function redo({ done, undone }) {
  return undone.length ? { done: [...done, undone.at(-1)], undone: undone.slice(0, -1) }
    : { done, undone };
}

/** Everything undone, and redo brings it back one by one: as the model drew it. */
export function undoAll({ done, undone }) {
  return { done: [], undone: [...undone, ...done.toReversed()] };
}

/** The states of all pixels after `edits`. What the model does not mark can't be taken out: at
 *  another operating point there may be less than when the edit was made. */
function apply(drawn, edits) {
  if (!edits.some(({ indexes }) => indexes.length)) return drawn;
  const states = drawn.slice();
  for (const { indexes, after } of edits) {
    for (let k = 0; k < indexes.length; k++) {
      const i = indexes[k];
      if (after[k] !== OUT || states[i] !== OFF) states[i] = after[k];
    }
  }
  return states;
}

/** Pixels of the model's mask that no edit decided on, in lesions of which edits made at another
 *  operating point took a part away: uint8 H*W, or null if there are none. */
function contradictions({ mask, width, point }, states, edits) {
  if (edits.every((one) => one.point === point)) return null;
  const decided = new Uint8Array(mask.length), elsewhere = new Uint8Array(mask.length);
  for (const { indexes, after, point: where } of edits) {
    for (let k = 0; k < indexes.length; k++) {
      decided[indexes[k]] = 1;
      elsewhere[indexes[k]] = where !== point && after[k] !== MARKED ? 1 : 0;
    }
  }
  const found = new Uint8Array(mask.length);
  let any = false;
  for (const lesion of lesions(mask, width, elsewhere)) {
    if (!lesion.met) continue;
    for (const i of groupAt(mask, width, lesion.start)) {
      if (decided[i] || states[i] !== MARKED) continue;
      found[i] = 1;
      any = true;
    }
  }
  return any ? found : null;
}

function differ(some, others) {
  for (let i = 0; i < some.length; i++) if (some[i] !== others[i]) return true;
  return false;
}

/** How many groups of `mask` have no pixel in `other`. */
function unmet(mask, width, other) {
  return lesions(mask, width, other).filter(({ met }) => !met).length;
}

/** All that is shown of a prediction after a history of edits.
 *
 *  prediction: {mask: uint8 H*W of 0 and 1, width, probability: uint8 H*W or null, point}.
 *  truth: uint8 H*W, not 0 = tumour, or null.
 *
 *  Returns
 *  states: uint8 H*W; mask: of 0 and 1;
 *  lesions: as in masks.js, marked and taken out, with `contradicts`;
 *  count, area: of those that are marked; missed: lesions of the truth that are not met;
 *  comparison: of mask and truth, with `before`: the Dice of the prediction; or null;
 *  changed: whether the mask is not the model's;
 *  reviewed: whether somebody said so at this operating point;
 *  removed, added: lesions of the model's without a pixel in this mask, and the other way round.
 */
export function derive(prediction, { done }, truth = null) {
  const { mask: drawn, width, probability, point } = prediction;
  const states = apply(drawn, done);
  const mask = states === drawn ? drawn : recoloured(states, [0, 1]);
  const changed = differ(mask, drawn);
  const odd = contradictions(prediction, states, done);
  const all = lesions(states, width, truth, probability);
  for (const lesion of all) {
    lesion.contradicts = Boolean(odd) && lesion.value === MARKED &&
      groupAt(states, width, lesion.start).some((i) => odd[i]);
  }
  const comparison = truth && compare(mask, truth);
  if (comparison) comparison.before = changed ? compare(drawn, truth).dice : comparison.dice;
  const review = done.findLast(({ reviewed }) => reviewed !== null);
  const standing = all.filter(({ value }) => value === MARKED);
  return {
    states,
    mask,
    lesions: all,
    count: standing.length,
    area: standing.reduce((sum, lesion) => sum + lesion.area, 0),
    missed: truth ? lesions(truth, width, mask, probability).filter(({ met }) => !met) : [],
    comparison,
    changed,
    reviewed: Boolean(review?.reviewed) && review.point === point,
    removed: changed ? unmet(drawn, width, mask) : 0,
    added: changed ? unmet(mask, width, drawn) : 0,
  };
}
