// The chosen image: picture, overlay, zoom, what is counted in it.

import { FN, FP, NOTHING, outline, TP } from "./masks.js";
import { save } from "./files.js";
import { by, count, duration, element, session, stateWords, stem } from "./session.js";

// Bright, since most of what they are laid over is black.
const MASK = [255, 77, 208];
const COLOURS = { [TP]: [40, 205, 100], [FP]: [255, 69, 58], [FN]: [61, 140, 255] };
export const GREYS = Array.from({ length: 256 }, (_, value) => [value, value, value]);
export const MARKED = [null, MASK]; // what a mask's 0 and 1 are painted with
const COMPARISON = [null, COLOURS[TP], COLOURS[FP], COLOURS[FN]];
const WORDS = { [TP]: "true positive", [FP]: "false positive", [FN]: "false negative" };
const ZOOMS = [0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];
const MOST_LISTED = 100, MOST_NUMBERED = 30; // lesions

let zoom = null; // null fits the image into the stage
let framed = null; // the lesion that was zoomed to

const picked = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const drawable = (one) => Boolean(one?.mask) && one.state !== "failed";
const compared = (one) => Boolean(one.truth) && session.compare;

/** Bring the viewer up to date with the chosen case. */
export function show() {
  const one = session.chosen;
  const failed = one.state === "failed";
  by("name").textContent = by("name").title = one.name;
  by("size").textContent = one.width ? `${one.width} × ${one.height} pixels` : "";
  by("fault").hidden = !failed;
  by("fault").textContent = failed ? one.words : "";
  // What the sender did wrong stays wrong.
  by("retry").hidden = !failed || (one.status > 0 && one.status < 500);
  by("waiting").hidden = one.state !== "waiting" && one.state !== "running";
  const waiting = session.locked ? "Waiting for the server's key." : "Waiting …";
  by("waiting").textContent = one.words ?? (one.state === "running" ? "Segmenting …" : waiting);
  by("result").hidden = !drawable(one);
  by("result").classList.toggle("stale", one.state !== "done");
  if (!drawable(one)) {
    clear();
    return;
  }
  for (const [id, words] of [["note", one.note], ["warning", one.warning]]) {
    by(id).hidden = !words;
    by(id).textContent = words ?? "";
  }
  by("trained-on").hidden = !one.trainedOn;
  showFacts(one);
  showTrust(one);
  showLesions(one);
  showDownload(one);
  showPicture(one);
}

/** Start from the whole image, as for one that was just chosen. */
export function resetView() {
  zoom = framed = null;
}

function showFacts(one) {
  const area = one.lesions.reduce((sum, lesion) => sum + lesion.area, 0);
  const { name, version, sha256 } = session.model;
  const counted = [["lesions", "Lesions", one.lesions.length]];
  const facts = [
    ["area", "Area", count(area, "pixel")],
    ["share", "Share of body", one.body ? `${((100 * area) / one.body).toFixed(2)} %` : "no body"],
  ];
  if (one.truth) {
    facts.push(
      ["dice", "Dice", one.truth.dice.toFixed(3)],
      ["tp", "True positive", count(one.truth.tp, "pixel")],
      ["fp", "False positive", count(one.truth.fp, "pixel")],
      ["fn", "False negative", count(one.truth.fn, "pixel")],
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

function factRow([key, term, value, more]) {
  const row = element("div");
  row.dataset.fact = key;
  row.append(element("dt", term), element("dd", value));
  if (more) row.append(element("dd", more));
  return row;
}

const percent = (share) => `${Math.round(100 * share)} %`;

/** How far to trust the count, as far as the model's file holds figures. */
function showTrust(one) {
  const { dice, dice_standard_error: error, specificity } = session.points[one.point] ?? {};
  const words = [];
  if (specificity === undefined) {
    words.push("How often healthy people get a mask is not noted in this model's file.");
  } else {
    words.push(`${percent(1 - specificity)} of healthy controls get a false-positive mask.`);
  }
  if (dice !== undefined) {
    const spread = error === undefined ? "" : ` ± ${error.toFixed(3)}`;
    words.push(`The mean Dice is ${dice.toFixed(3)}${spread} on patients the model has not seen.`);
  }
  if (dice === undefined && session.model.dice) words.push(`Its Dice: ${session.model.dice}.`);
  words.push("Expect less on images from other scanners.");
  if (!one.lesions.length) words.push("An empty mask does not rule out a tumour.");
  by("trust").replaceChildren(element("h3", "How far to trust this"), element("p", words.join(" ")));
}

/** All that is listed: lesions of the mask, then those of the truth that it missed. */
function listed(one) {
  const kind = (lesion) => (one.truth ? (lesion.met ? TP : FP) : NOTHING);
  const found = one.lesions.map((lesion, i) => ({ ...lesion, label: i + 1, kind: kind(lesion) }));
  const missed = one.missed.map((lesion, i) => ({ ...lesion, label: `m${i + 1}`, kind: FN }));
  return [...found, ...missed];
}

function showLesions(one) {
  const all = listed(one);
  const rows = all.slice(0, MOST_LISTED).map((lesion) => {
    const button = element("button");
    button.type = "button";
    button.append(
      element("b", lesion.label), element("span", count(lesion.area, "pixel")),
      element("span", WORDS[lesion.kind] ?? "", "hint"),
    );
    button.addEventListener("click", () => zoomTo(lesion));
    const row = element("li");
    row.append(button);
    return row;
  });
  const more = all.length - rows.length;
  if (more > 0) rows.push(element("li", `and ${count(more, "smaller one")}`, "hint"));
  if (!all.length) rows.push(element("li", "none", "hint"));
  by("lesions").replaceChildren(...rows);
}

function showDownload(one) {
  const link = by("download-mask");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(one.png);
  link.download = `${stem(one.name)}_mask.png`;
}

/** Leave nothing of another image behind. */
function clear() {
  for (const canvas of [by("image"), by("overlay")]) canvas.width = canvas.height = 0;
  by("labels").replaceChildren();
  by("picture").removeAttribute("aria-label");
}

function showPicture(one) {
  for (const canvas of [by("image"), by("overlay")]) {
    canvas.width = one.width; // empties it as well
    canvas.height = one.height;
  }
  const image = paint(one.grey, one.width, GREYS);
  by("image").getContext("2d").drawImage(image, 0, 0);
  showOverlay();
  showZoom();
}

/** Draw the overlay again, and whatever says what its colours mean. */
export function showOverlay() {
  const one = session.chosen;
  if (!drawable(one)) return;
  const truth = document.querySelector("input[name=show][value=truth]");
  truth.disabled = !one.truth;
  truth.closest("label").title = one.truth ? "" : "Add the truth mask of this image to compare";
  document.querySelector(`input[name=show][value=${compared(one) ? "truth" : "mask"}]`).checked =
    true;
  by("opacity-value").textContent = `${by("opacity").value} %`;
  const context = by("overlay").getContext("2d");
  context.clearRect(0, 0, one.width, one.height);
  context.drawImage(overlayOf(one), 0, 0);
  by("overlay").style.opacity = by("opacity").value / 100;
  by("picture").setAttribute("aria-label", `${one.name}: ${stateWords(one)}`);
  const entries = compared(one)
    ? [TP, FP, FN].map((kind) => [COLOURS[kind], WORDS[kind]])
    : [[MASK, "marked by the model"]];
  by("legend").replaceChildren(...entries.map(([colour, words]) => {
    const entry = element("li", words);
    const swatch = element("span", "", "swatch");
    swatch.style.backgroundColor = `rgb(${colour})`;
    entry.prepend(swatch);
    return entry;
  }));
  showLabels(one);
}

/** Number the lesions in the picture as in their list, and frame the one that was zoomed to. */
function showLabels(one) {
  const all = listed(one).filter(({ kind }) => kind !== FN || compared(one));
  const place = (tag, { box: [left, top, right, bottom] }) => {
    tag.style.left = `${(100 * left) / one.width}%`;
    tag.style.top = `${(100 * top) / one.height}%`;
    tag.style.width = `${(100 * (right - left)) / one.width}%`;
    tag.style.height = `${(100 * (bottom - top)) / one.height}%`;
    return tag;
  };
  by("labels").replaceChildren(...all.slice(0, MOST_NUMBERED).map((lesion) => {
    const tag = element("span", "", lesion.label === framed ? "framed" : "");
    tag.append(element("b", lesion.label));
    return place(tag, lesion);
  }));
}

/** What is laid over the image, as a canvas of its size. */
function overlayOf(one) {
  const kinds = compared(one) ? one.truth.kinds : one.mask;
  const drawn = picked("draw") === "outline" ? outline(kinds, one.width) : kinds;
  return paint(drawn, one.width, compared(one) ? COMPARISON : MARKED);
}

/** A canvas of the size of `values`; `palette` has the [r, g, b] of each, or null for none. */
export function paint(values, width, palette) {
  const canvas = new OffscreenCanvas(width, values.length / width);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  // One number for the four bytes of a pixel: a full list of images is painted many times.
  const words = new Uint32Array(pixels.data.buffer);
  const colours = Uint32Array.from(palette, (rgb) => {
    return rgb ? new Uint32Array(Uint8Array.of(...rgb, 255).buffer)[0] : 0;
  });
  for (let i = 0; i < values.length; i++) words[i] = colours[values[i]];
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Save image and overlay as they are shown. */
export async function downloadOverlay() {
  const one = session.chosen;
  const canvas = new OffscreenCanvas(one.width, one.height);
  const context = canvas.getContext("2d");
  context.drawImage(by("image"), 0, 0);
  context.globalAlpha = by("opacity").value / 100;
  context.drawImage(overlayOf(one), 0, 0);
  save(await canvas.convertToBlob(), `${stem(one.name)}_overlay.png`);
}

// Zoom

/** The scale at which all of the image is in view, in CSS pixels per pixel. */
function fitting() {
  const stage = by("stage"), { width, height } = session.chosen;
  return Math.min(stage.clientWidth / width, stageHeight() / height, 3);
}

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
  const scale = zoom ?? fitting();
  picture.style.width = `${Math.floor(session.chosen.width * scale)}px`;
  picture.style.height = `${Math.floor(session.chosen.height * scale)}px`;
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
  const scale = zoom ?? fitting();
  zoom = steps > 0 ? ZOOMS.find((z) => z > scale + 0.01) : ZOOMS.findLast((z) => z < scale - 0.01);
  zoom ??= scale;
  showZoom();
}

/** Zoom by a factor, about a point of the window. */
export function zoomAt(factor, point) {
  if (!drawable(session.chosen)) return;
  zoom = Math.min(ZOOMS.at(-1), Math.max(ZOOMS[0], (zoom ?? fitting()) * factor));
  showZoom(point);
}

export function zoomToFit() {
  resetView();
  showZoom();
  if (drawable(session.chosen)) showLabels(session.chosen);
}

/** Fill a third of the stage with a lesion, and frame it. */
function zoomTo(lesion) {
  const stage = by("stage");
  const [left, top, right, bottom] = lesion.box;
  const scale = Math.min(stage.clientWidth / (right - left), stageHeight() / (bottom - top)) / 3;
  zoom = Math.min(6, Math.max(fitting(), scale));
  framed = lesion.label;
  stage.scrollIntoView({ block: "nearest" });
  showZoom();
  showLabels(session.chosen);
  const picture = by("picture").getBoundingClientRect(), view = stage.getBoundingClientRect();
  const { width, height } = session.chosen;
  stage.scrollLeft += picture.x + (picture.width * (left + right)) / 2 / width -
    (view.x + view.width / 2);
  stage.scrollTop += picture.y + (picture.height * (top + bottom)) / 2 / height -
    (view.y + view.height / 2);
}

/** Zoom to the lesion behind the one that was zoomed to last, and from the last to the first. */
export function zoomToNext() {
  if (!drawable(session.chosen)) return;
  const all = listed(session.chosen);
  if (all.length) zoomTo(all[(all.findIndex(({ label }) => label === framed) + 1) % all.length]);
}
