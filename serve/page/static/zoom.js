// How large the picture is, and which part of it is in view.

import { nextLesion, showLabels } from "./lesions.js";
import { by, drawable, session } from "./session.js";

const ZOOMS = [0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];

let zoom = null; // null fits the image into the stage

/** Start from the whole image, as for one that was just chosen. */
export function resetZoom() {
  zoom = session.framed = null;
}

/** The scale at which all of the image is in view, in CSS pixels per pixel. */
function fitting() {
  const stage = by("stage"), { width, height } = session.chosen.prediction;
  return Math.min(stage.clientWidth / width, stageHeight() / height, 3);
}

/** CSS pixels per pixel of the image. */
export const scaleNow = () => zoom ?? fitting();

/** The highest that the stage can be inside its border. */
function stageHeight() {
  const { maxHeight, borderTopWidth } = getComputedStyle(by("stage"));
  return parseFloat(maxHeight) - 2 * parseFloat(borderTopWidth);
}

/** Apply the zoom and keep a point of the image where it is: {x, y} in the window, or else what
 *  is in the middle of the stage. */
export function showZoom(point = null) {
  if (!drawable(session.chosen)) return;
  const stage = by("stage"), picture = by("picture");
  const middle = stage.getBoundingClientRect();
  const { x, y } = point ?? { x: middle.x + middle.width / 2, y: middle.y + middle.height / 2 };
  const before = picture.getBoundingClientRect();
  const across = before.width ? (x - before.x) / before.width : 0.5;
  const down = before.height ? (y - before.y) / before.height : 0.5;
  const scale = scaleNow(), { width, height } = session.chosen.prediction;
  picture.style.width = `${Math.floor(width * scale)}px`;
  picture.style.height = `${Math.floor(height * scale)}px`;
  picture.classList.toggle("enlarged", scale > 1);
  by("zoom-value").textContent = `${Math.round(100 * scale)} %`;
  by("zoom-out").disabled = scale <= ZOOMS[0];
  by("zoom-fit").setAttribute("aria-pressed", !zoom);
  by("zoom-in").disabled = scale >= ZOOMS.at(-1);
  const after = picture.getBoundingClientRect();
  stage.scrollLeft += after.x + across * after.width - x;
  stage.scrollTop += after.y + down * after.height - y;
}

/** One step of the ladder in or out. */
export function zoomBy(steps) {
  if (!drawable(session.chosen)) return;
  const scale = scaleNow();
  zoom = steps > 0 ? ZOOMS.find((z) => z > scale + 0.01) : ZOOMS.findLast((z) => z < scale - 0.01);
  zoom ??= scale;
  showZoom();
}

/** Zoom by a factor, about a point of the window. */
export function zoomAt(factor, point) {
  if (!drawable(session.chosen)) return;
  zoom = Math.min(ZOOMS.at(-1), Math.max(ZOOMS[0], scaleNow() * factor));
  showZoom(point);
}

export function zoomToFit() {
  resetZoom();
  showZoom();
  if (drawable(session.chosen)) showLabels(session.chosen);
}

/** Fill a third of the stage with a lesion, and frame it. */
export function zoomTo(lesion) {
  const stage = by("stage");
  const [left, top, right, bottom] = lesion.box;
  const scale = Math.min(stage.clientWidth / (right - left), stageHeight() / (bottom - top)) / 3;
  zoom = Math.min(6, Math.max(fitting(), scale));
  session.framed = lesion.label;
  stage.scrollIntoView({ block: "nearest" });
  showZoom();
  showLabels(session.chosen);
  const { width, height } = session.chosen.prediction;
  const picture = by("picture").getBoundingClientRect(), view = stage.getBoundingClientRect();
  stage.scrollLeft += picture.x + (picture.width * (left + right)) / 2 / width -
    (view.x + view.width / 2);
  stage.scrollTop += picture.y + (picture.height * (top + bottom)) / 2 / height -
    (view.y + view.height / 2);
}

/** Zoom to the lesion behind the one that was zoomed to last, and from the last to the first. */
export function zoomToNext() {
  if (!drawable(session.chosen)) return;
  const lesion = nextLesion(session.chosen);
  if (lesion) zoomTo(lesion);
}

/** Scroll the stage so far that a point of the image, {x, y} in its pixels, is in view. */
export function keepInView({ x, y }) {
  const stage = by("stage"), view = stage.getBoundingClientRect();
  const picture = by("picture").getBoundingClientRect(), scale = scaleNow(), room = 20;
  const left = picture.x + x * scale - view.x, top = picture.y + y * scale - view.y;
  stage.scrollLeft += Math.min(0, left - room) + Math.max(0, left + room - stage.clientWidth);
  stage.scrollTop += Math.min(0, top - room) + Math.max(0, top + room - stage.clientHeight);
}
