// The lesions of the chosen image: their list, and their numbers in the picture.

import { OUT } from "./core/edits.js";
import { FN, FP, TP } from "./core/masks.js";
import { by, count, element, percent, session } from "./session.js";

export const WORDS = { [TP]: "true positive", [FP]: "false positive", [FN]: "false negative" };
const MOST_LISTED = 100, MOST_NUMBERED = 30;

/** Whether the truth is shown, which must be there for it. */
export const compared = (one) => Boolean(one.derived.comparison) && session.view === "truth";

/** All that is listed: lesions of the mask, those taken out too, then those of the truth that it
 *  missed. Each as in core/masks.js, with `label` and `kind`, of which null is for none. */
export function listed(one) {
  const { lesions, missed, comparison } = one.derived;
  const kind = ({ value, met }) => (!comparison || value === OUT ? null : met ? TP : FP);
  const found = lesions.map((lesion, i) => ({
    ...lesion, label: `${i + 1}`, kind: kind(lesion), out: lesion.value === OUT,
  }));
  return [...found, ...missed.map((lesion, i) => ({ ...lesion, label: `m${i + 1}`, kind: FN }))];
}

/** The same in the order that the person wants. */
function ordered(one) {
  const all = listed(one);
  const highest = (lesion) => lesion.highest ?? -1;
  const orders = {
    size: () => 0,
    most: (a, b) => highest(b) - highest(a),
    least: (a, b) => highest(a) - highest(b),
  };
  return all.sort(orders[by("lesion-sort").value]);
}

/** The lesion behind the framed one in the list, and behind the last the first. */
export function nextLesion(one) {
  const all = ordered(one);
  return all[(all.findIndex(({ label }) => label === session.framed) + 1) % all.length];
}

export function showLesions(one) {
  const all = ordered(one);
  const focused = document.activeElement?.closest?.("#lesions li")?.dataset.start;
  const role = document.activeElement?.className;
  by("lesion-sort").closest("label").hidden = !one.prediction.probability || all.length < 2;
  const rows = all.slice(0, MOST_LISTED).map((lesion) => row(lesion));
  const more = all.length - rows.length;
  if (more > 0) rows.push(element("li", `and ${count(more, "more")}`, "hint"));
  if (!all.length) rows.push(element("li", "none", "hint"));
  by("lesions").replaceChildren(...rows);
  // What was clicked keeps the focus, though its row was made anew.
  if (focused) by("lesions").querySelector(`[data-start="${focused}"] .${role}`)?.focus();
}

function row(lesion) {
  const { label, area, highest, kind, out, contradicts, start } = lesion;
  const words = out ? "taken out" : contradicts ? "next to one taken out" : WORDS[kind] ?? "";
  const made = element("li");
  Object.assign(made.dataset, { label, start });
  made.classList.toggle("out", Boolean(out));
  const look = element("button", "", "lesion");
  look.type = "button";
  look.append(
    element("b", label), element("span", count(area, "pixel")),
    element("span", highest === null ? "" : percent(highest), "probability"),
    element("span", words, "hint"),
  );
  if (highest !== null) {
    look.querySelector(".probability").title = "Highest probability of a pixel in this lesion";
  }
  made.append(look);
  if (kind !== FN) {
    const take = element("button", out ? "Bring back" : "Take out", "take");
    take.type = "button";
    take.setAttribute("aria-label", `${take.textContent} lesion ${label}`);
    made.append(take);
  }
  return made;
}

/** Number the lesions in the picture as in their list, and frame the one that was zoomed to. */
export function showLabels(one) {
  const { width, height } = one.prediction;
  const all = listed(one).filter(({ kind }) => kind !== FN || compared(one));
  by("labels").replaceChildren(...all.slice(0, MOST_NUMBERED).map((lesion) => {
    const [left, top, right, bottom] = lesion.box;
    const tag = element("span", "", lesion.label === session.framed ? "framed" : "");
    // At the edges of the picture a number stands where there is room.
    tag.classList.toggle("at-right", right > 0.94 * width);
    tag.classList.toggle("at-top", top < 0.03 * height);
    tag.classList.toggle("out", Boolean(lesion.out));
    tag.append(element("b", lesion.label));
    tag.style.left = `${(100 * left) / width}%`;
    tag.style.top = `${(100 * top) / height}%`;
    tag.style.width = `${(100 * (right - left)) / width}%`;
    tag.style.height = `${(100 * (bottom - top)) / height}%`;
    return tag;
  }));
}
