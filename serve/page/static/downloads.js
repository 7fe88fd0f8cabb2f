// What people take away, all of it of the corrected masks: masks, pictures, a table, and labels to
// train with.

import { crc32 } from "./core/crc32.js";
import { bytesOf, maskPng, withText } from "./core/png.js";
import { zip } from "./core/zip.js";
import { csv, save } from "./files.js";
import { by, session, stem } from "./session.js";
import { overlayOf } from "./viewer.js";
import { allCases } from "./worklist.js";

const COLUMNS = ["image", "height", "width", "lesions", "tumour_pixels", "body_pixels",
  "share_of_body", "dice", "true_positive_pixels", "false_positive_pixels",
  "false_negative_pixels", "ms", "operating_point", "model", "trained_on", "warning", "fault",
  "reviewed", "lesions_removed", "lesions_added"];
export const SOFTWARE = "Tumour segmenter, page"; // what a mask of this page names as its maker
export const LABELS = "Training labels of the tumour segmenter's page"; // comment in their ZIP

const yesNo = (value) => (value ? "yes" : "no");

/** What stands in the PNG files: who made them, and from what. */
function textFor(one) {
  const { name, version, sha256 } = session.model;
  const { changed, reviewed, removed, added } = one.derived;
  return {
    Software: SOFTWARE,
    Version: session.version,
    Model: [name, version, sha256?.slice(0, 8)].filter(Boolean).join(" "),
    "Operating point": one.prediction.point ?? "",
    Image: one.name,
    "Image CRC-32": imageCrc(one.prediction),
    "Changed by a person": yesNo(changed),
    Reviewed: yesNo(reviewed),
    "Lesions removed": String(removed),
    "Lesions added": String(added),
  };
}

/** What tells one image from another, as text. */
export const imageCrc = ({ grey }) => crc32(grey).toString(16).padStart(8, "0");

const pngOf = (one) => maskPng(one.derived.mask, one.prediction.width, textFor(one));

/** Remember that all of a case's corrections are in a file. */
function keep(one) {
  one.savedEdit = one.history.done.at(-1) ?? null;
}

/** Whether corrections would be lost with the page. */
export function anyUnsaved() {
  return allCases().some((one) => (one.history.done.at(-1) ?? null) !== (one.savedEdit ?? null));
}

export async function downloadMask() {
  const one = session.chosen;
  keep(one);
  save(await pngOf(one), `${stem(one.name)}_mask.png`);
}

/** Save image and overlay as they are shown. */
export async function downloadPicture() {
  const one = session.chosen, { width, height } = one.prediction;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(by("image"), 0, 0);
  context.globalAlpha = by("opacity").value / 100;
  context.drawImage(overlayOf(one, false), 0, 0);
  // A picture is no mask, so it does not name itself as one of this page.
  const text = { ...textFor(one), Software: "Tumour segmenter, picture" };
  const picture = await bytesOf(await canvas.convertToBlob());
  save(withText(picture, text), `${stem(one.name)}_overlay.png`);
}

const done = () => session.cases.filter((one) => one.state === "done");

export async function downloadAll() {
  const files = [];
  for (const one of done()) {
    keep(one);
    files.push({ name: `${stem(one.name)}_mask.png`, blob: await pngOf(one) });
  }
  save(await zip(files), "masks.zip");
}

/** Images and masks that somebody reviewed, in the folders that training reads. */
export async function downloadLabels() {
  const files = [], names = new Set();
  for (const one of done().filter((c) => c.derived.reviewed && !c.phantom)) {
    keep(one);
    const healthy = !one.derived.count;
    const text = stem(one.name).replace(/^(patient|control)_/, "");
    const prefix = healthy ? "control_" : "patient_";
    let name = text;
    for (let n = 2; names.has(prefix + name); n++) name = `${text}-${n}`;
    names.add(prefix + name);
    const folder = healthy ? "controls" : "patients";
    files.push({ name: `${folder}/imgs/${prefix}${name}.png`, blob: one.file });
    if (!healthy) {
      files.push({ name: `patients/labels/segmentation_${name}.png`, blob: await pngOf(one) });
    }
  }
  save(await zip(files, LABELS), "training_labels.zip");
}

export function downloadTable() {
  const { name, version, sha256 } = session.model;
  const model = [name, version, sha256?.slice(0, 8)].filter(Boolean).join(" ");
  const rows = session.cases.filter((one) => one.state === "done" || one.state === "failed");
  save(csv([COLUMNS, ...rows.map((one) => row(one, model))]), "masks.csv");
}

function row(one, model) {
  if (one.state === "failed") {
    return COLUMNS.map((column) => ({ image: one.name, fault: one.words })[column]);
  }
  const { area, count, comparison, reviewed, removed, added } = one.derived;
  const { width, height, point } = one.prediction;
  const share = one.body ? (area / one.body).toFixed(6) : "";
  const { dice, tp, fp, fn } = comparison ?? {};
  return [one.name, height, width, count, area, one.body, share, dice?.toFixed(6), tp, fp, fn,
    Math.round(1000 * one.seconds), point, model, one.trainedOn ? "yes" : "", one.warning, one.note,
    yesNo(reviewed), removed, added];
}
