// The operating points of the model: which are there, what each costs, which one is asked for.

import { by, element, session } from "./session.js";

const ORDER = ["sensitive", "balanced", "specific"];
const share = (value) => (value === undefined ? "" : `${Math.round(100 * value)} %`);
// What is told of each, as far as the model's file does: heading, and figure of a point.
const FIGURES = [
  ["Dice", ({ dice }) => dice?.toFixed(3) ?? ""],
  ["Lesions found", ({ lesion_sensitivity: sensitivity }) => share(sensitivity)],
  ["False lesions a patient", (point) => point.false_lesions_per_patient?.toFixed(1) ?? ""],
  ["Healthy with empty mask", ({ specificity }) => share(specificity)],
];

/** Offer the operating points, if there are several; `chosen()` is called when one is chosen. */
export function offerPoints(chosen) {
  const names = Object.keys(session.points);
  if (names.length < 2) return;
  session.point = names.includes(session.model.operating_point) ? session.model.operating_point
    : names[0];
  names.sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
  const told = FIGURES.filter(([, figure]) => names.some((name) => figure(session.points[name])));
  const headings = ["Point", ...told.map(([heading]) => heading)];
  by("point-heads").replaceChildren(...headings.map((heading) => {
    return Object.assign(element("th", heading), { scope: "col" });
  }));
  const figures = told.map(([, figure]) => figure);
  by("point-rows").replaceChildren(...names.map((name) => row(name, figures, chosen)));
  by("points").hidden = false;
}

function row(name, figures, chosen) {
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
  made.append(head, ...figures.map((figure) => element("td", figure(session.points[name]))));
  // All of the row chooses it.
  made.addEventListener("click", () => input.checked || input.click());
  return made;
}
