// What is told of the chosen image beside its picture.

import { by, count, duration, element, session } from "./session.js";

export function showFacts(one) {
  const { derived } = one;
  const { area } = derived;
  const { name, version, sha256 } = session.model;
  const counted = [["lesions", "Lesions", derived.count, correction(derived)]];
  const facts = [
    ["area", "Area", count(area, "pixel")],
    ["share", "Share of body", one.body ? `${((100 * area) / one.body).toFixed(2)} %` : "no body"],
  ];
  if (derived.comparison) {
    const { dice, before, tp, fp, fn } = derived.comparison;
    const was = derived.changed ? `as the model drew it ${before.toFixed(3)}` : "";
    counted.push(["dice", "Dice", dice.toFixed(3), was]);
    facts.push(
      ["tp", "True positive", count(tp, "pixel")],
      ["fp", "False positive", count(fp, "pixel")],
      ["fn", "False negative", count(fn, "pixel")],
    );
  }
  const model = one.modelSeconds && `model ${duration(one.modelSeconds)}`;
  facts.push(["time", "Time taken", duration(one.seconds), model]);
  if (name) {
    const which = [version, sha256 && `SHA-256 ${sha256.slice(0, 8)}`].filter(Boolean).join(", ");
    facts.push(["model", "Model", name, which]);
  }
  by("counted").replaceChildren(...counted.map(factRow));
  by("facts").replaceChildren(...facts.map(factRow));
}

/** What a person did to the mask, in words; empty if nothing. */
function correction({ changed, removed, added }) {
  if (!changed) return "";
  const words = [removed && `${removed} removed`, added && `${added} added`].filter(Boolean);
  return `corrected${words.length ? `: ${words.join(", ")}` : ""}`;
}

function factRow([key, term, value, more]) {
  const row = element("div");
  row.dataset.fact = key;
  row.append(element("dt", term), element("dd", value));
  if (more) row.append(element("dd", more));
  return row;
}

/** How far to trust the count, as far as the model's file holds figures. */
export function showTrust(one) {
  const point = session.points[one.prediction.point] ?? {};
  const { dice, dice_standard_error: error, specificity } = point;
  const words = [];
  if (specificity === undefined) {
    words.push("How often healthy people get a mask is not noted in this model's file.");
  } else {
    const share = Math.round(100 * (1 - specificity));
    words.push(`${share} % of healthy controls get a false-positive mask.`);
  }
  if (dice !== undefined) {
    const spread = error === undefined ? "" : ` ± ${error.toFixed(3)}`;
    words.push(`The mean Dice is ${dice.toFixed(3)}${spread} on patients the model has not seen.`);
  }
  if (dice === undefined && session.model.dice) words.push(`Its Dice: ${session.model.dice}.`);
  words.push("Expect less on images from other scanners.");
  if (!one.derived.count) words.push("An empty mask does not rule out a tumour.");
  by("trust").replaceChildren(element("h3", "How far to trust this"),
    element("p", words.join(" ")));
}

/** What of the corrections does not fit the operating point that is shown; empty if all does. */
function contradiction(one) {
  const odd = one.derived.lesions.filter(({ contradicts }) => contradicts).length;
  const words = [];
  if (odd) {
    words.push(`At this operating point the model marks ${count(odd, "lesion")} around what was ` +
      "taken out at another one. Take it out as well, or leave it.");
  }
  const elsewhere = one.history.done.findLast(({ reviewed }) => reviewed !== null);
  if (elsewhere?.reviewed && !one.derived.reviewed) {
    words.push(`Reviewed at the operating point “${elsewhere.point}”, not at this one.`);
  }
  return words.join(" ");
}

export function showNotes(one) {
  const notes = { note: one.note, warning: one.warning, contradiction: contradiction(one) };
  for (const [id, words] of Object.entries(notes)) {
    by(id).hidden = !words;
    by(id).textContent = words ?? "";
  }
  by("trained-on").hidden = !one.trainedOn;
}
