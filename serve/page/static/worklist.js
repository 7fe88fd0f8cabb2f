// The list of images: order, removal that can be undone, files of all of them.

import { csv, save, zip } from "./files.js";
import { by, count, duration, session, stateWords, stem } from "./session.js";
import { GREYS, MARKED, paint, resetView, show } from "./viewer.js";

const COLUMNS = ["image", "height", "width", "lesions", "tumour_pixels", "body_pixels",
  "share_of_body", "dice", "true_positive_pixels", "false_positive_pixels",
  "false_negative_pixels", "ms", "operating_point", "model", "trained_on", "warning", "fault"];

let added = 0; // how many cases there ever were
let removed = null; // {cases, chosen} of the last removal

/** Put a case at the end of the list. */
export function list(one) {
  one.number = added++;
  one.item = by("case").content.cloneNode(true).querySelector("li");
  const name = one.item.querySelector(".case-name");
  name.textContent = name.title = one.name;
  one.item.querySelector("button").addEventListener("click", () => choose(one));
  by("cases").append(one.item);
  session.cases.push(one);
  return one;
}

/** Bring list, progress and viewer up to date with a case. */
export function changed(one) {
  one.item.dataset.state = one.state;
  one.item.querySelector(".case-state").textContent = stateWords(one);
  one.item.querySelector(".case-time").textContent =
    one.state === "done" ? duration(one.seconds) : "";
  showStatus();
  if (one.state === "done" && by("sort").value === "dice") sort();
  if (one === session.chosen) show();
}

function showStatus() {
  const { cases } = session;
  const failed = cases.filter((c) => c.state === "failed").length;
  const done = cases.filter((c) => c.state === "done");
  const scored = done.filter((c) => c.truth);
  const known = scored.filter((c) => c.trainedOn).length;
  const finished = done.length + failed;
  const all = finished === cases.length;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const words = [all ? count(cases.length, "image") : `${finished} of ${cases.length} done`];
  if (failed) words.push(`${failed} failed`);
  if (scored.length) {
    const dice = mean(scored.map((c) => c.truth.dice)).toFixed(3);
    const but = known ? ` (the model was trained on ${known} of them)` : "";
    words.push(`mean Dice ${dice} over ${scored.length}${but}`);
  }
  if (done.length > 1) {
    words.push(`${duration(mean(done.map((c) => c.seconds)))} each`);
  }
  by("progress").max = Math.max(1, cases.length);
  by("progress").value = finished;
  by("progress").classList.toggle("finished", all);
  by("status").textContent = words.join(", ");
  by("download-all").disabled = !done.length;
  by("download-table").disabled = !finished;
}

/** Show a case in the viewer; null closes it. */
export function choose(one) {
  if (one !== session.chosen) resetView();
  session.chosen = one;
  for (const other of session.cases) {
    const current = other === one;
    other.item.querySelector("button").setAttribute("aria-current", current);
    if (current) keepInView(other.item);
  }
  const started = session.cases.length > 0;
  document.body.classList.toggle("started", started);
  by("worklist").hidden = by("viewer").hidden = !started;
  if (started) show();
}

/** Scroll the list alone: `scrollIntoView` would move the page away from the picture. */
function keepInView(item) {
  const box = by("cases").getBoundingClientRect(), own = item.getBoundingClientRect();
  by("cases").scrollTop += Math.min(0, own.top - box.top) + Math.max(0, own.bottom - box.bottom);
  by("cases").scrollLeft += Math.min(0, own.left - box.left) + Math.max(0, own.right - box.right);
}

/** Choose the case `steps` behind the chosen one, if there is one. */
export function step(steps) {
  const next = session.cases[session.cases.indexOf(session.chosen) + steps];
  if (next) choose(next);
  return next;
}

/** Sort the list as the person wants it; what has no Dice goes to the end. */
export function sort() {
  const dice = (one) => one.truth?.dice ?? 2;
  const orders = {
    added: () => 0,
    name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
    dice: (a, b) => dice(a) - dice(b),
  };
  const order = orders[by("sort").value];
  session.cases.sort((a, b) => order(a, b) || a.number - b.number);
  by("cases").append(...session.cases.map((one) => one.item));
}

/** Take cases out of the list; what was asked about them is asked no more. */
export function remove(some) {
  if (!some.length) return;
  const at = session.cases.indexOf(session.chosen);
  removed = { cases: some, chosen: session.chosen };
  for (const one of some) {
    one.stop?.abort();
    if (one.state === "running") one.state = "waiting";
    one.item.remove();
  }
  session.cases = session.cases.filter((one) => !some.includes(one));
  showRemoved();
  showStatus();
  if (some.includes(session.chosen)) {
    choose(session.cases[Math.min(at, session.cases.length - 1)] ?? null);
  }
  if (!session.cases.length) by("undo").focus();
}

/** Put the last removal back; the caller lets the work go on. */
export function undo() {
  if (!removed) return;
  const { cases, chosen } = removed;
  removed = null;
  session.cases.push(...cases);
  sort();
  showRemoved();
  choose(chosen ?? session.cases[0]);
  for (const one of cases) changed(one);
}

function showRemoved() {
  const words = by("removed").querySelector("span");
  words.textContent = removed
    ? `${removed.cases.length === 1 ? removed.cases[0].name : count(removed.cases.length, "image")}` +
      " removed."
    : "";
  by("undo").hidden = !removed;
}

export function drawThumbnail(one, { width, height, grey }) {
  const canvas = one.item.querySelector("canvas");
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const context = canvas.getContext("2d");
  const place = [
    (canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2,
    width * scale, height * scale,
  ];
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(paint(grey, width, GREYS), ...place);
  context.drawImage(paint(one.mask, width, MARKED), ...place);
}

/** Say which files were not taken; they are named as far as there is room. */
export function showIgnored(names) {
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  by("ignored").textContent = names.length
    ? `Ignored, because they are no PNG files: ${names.slice(0, 3).join(", ")}${more}.`
    : "";
}

export async function downloadAll() {
  const done = session.cases.filter((one) => one.state === "done");
  save(await zip(done.map((one) => ({ name: `${stem(one.name)}_mask.png`, blob: one.png }))),
    "masks.zip");
}

export function downloadTable() {
  const { name, version, sha256 } = session.model;
  const model = [name, version, sha256?.slice(0, 8)].filter(Boolean).join(" ");
  const rows = session.cases.filter((one) => one.state === "done" || one.state === "failed");
  save(csv([COLUMNS, ...rows.map((one) => row(one, model))]), "masks.csv");
}

function row(one, model) {
  if (one.state === "failed") return [one.name, ...Array(COLUMNS.length - 2).fill(""), one.words];
  const area = one.lesions.reduce((sum, lesion) => sum + lesion.area, 0);
  const share = one.body ? (area / one.body).toFixed(6) : "";
  const { dice, tp, fp, fn } = one.truth ?? {};
  return [one.name, one.height, one.width, one.lesions.length, area, one.body, share,
    dice?.toFixed(6), tp, fp, fn, Math.round(1000 * one.seconds), one.point, model,
    one.trainedOn ? "yes" : "", one.warning, one.note];
}
