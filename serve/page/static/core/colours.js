// The colours of a probability: viridis, perceptually uniform and safe for the colour-blind.

const STEPS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37],
];
// What is less probable is not coloured, so that the body is seen.
export const LEAST = 0.02;

/** [r, g, b] of a probability, 0 to 1. */
export function viridis(probability) {
  const at = probability * (STEPS.length - 1), i = Math.min(Math.floor(at), STEPS.length - 2);
  return STEPS[i].map((low, k) => Math.round(low + (at - i) * (STEPS[i + 1][k] - low)));
}

/** [r, g, b] of each probability in steps of 1 / 255; null where it is below LEAST. */
export const PROBABILITIES = Array.from({ length: 256 }, (_, value) => {
  return value / 255 < LEAST ? null : viridis(value / 255);
});
