// The operating points of the model: which are there, what each costs, which one is asked for.

import { by, element, session } from "./session.js";

const ORDER = ["sensitive", "balanced", "specific"];
const share = (value) => (value === undefined ? "" : `${Math.round(100 * value)} %`);
// What is told of each, as far as the model's file does; its heading stands in index.html.
const FIGURES = [
  ({ dice }) => dice?.toFixed(3) ?? "",
  ({ lesion_sensitivity: sensitivity }) => share(sensitivity),
  ({ false_lesions_per_patient: lesions }) => lesions?.toFixed(1) ?? "",
  ({ specificity }) => share(specificity),
];

/** Offer the operating points, if there are several; `chosen()` is called when one is chosen. */
export function offerPoints(chosen) {
  const names = Object.keys(session.points);
  if (names.length < 2) return;
  session.point = names.includes(session.model.operating_point) ? session.model.operating_point
    : names[0];
  names.sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
  by("point-rows").replaceChildren(...names.map((name) => row(name, chosen)));
  by("points").hidden = false;
}

function row(name, chosen) {
  const input = element("input");
  Object.assign(input, { type: "radio", name: "point", value: name });
  input.checked = name === session.point;
  input.addEventListener("input", () => {
    session.point = name;
    chosen();
  });
  const label = element("label");
  label.append(input, element("span", name[0].toUpperCase() + name.slice(1)));
  const head = element("th");
  head.scope = "row";
  head.append(label);
  const made = element("tr");
  made.append(head, ...FIGURES.map((figure) => element("td", figure(session.points[name]))));
  // All of the row chooses it.
  made.addEventListener("click", () => input.checked || input.click());
  return made;
}
