// The list of images: what is in it, its order, removal that can be undone.

import { EMPTY } from "./core/edits.js";
import { GREYS, MARKED, paint } from "./paint.js";
import { by, count, duration, isImage, session, stateWords } from "./session.js";
import { show } from "./viewer.js";
import { resetZoom } from "./zoom.js";

let added = 0; // how many cases there ever were
let chosen = () => {};
let removed = null; // {cases, chosen} of the last removal

/** Put a case at the end of the list. */
export function list(one) {
  one.number = added++;
  one.history = EMPTY;
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
  // A doubtful mask is seen as such before it is chosen.
  const doubt = one.state === "done" ? [one.warning, one.note].filter(Boolean).join(" ") : "";
  one.item.querySelector(".case-doubt").hidden = !doubt;
  one.item.querySelector(".case-doubt").title = doubt;
  one.item.querySelector(".case-time").textContent =
    one.state === "done" ? duration(one.seconds) : "";
  showStatus();
  if (one.state === "done" && by("sort").value === "dice") sort();
  if (one === session.chosen) show();
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function showStatus() {
  const images = session.cases.filter(isImage);
  const alone = session.cases.length - images.length;
  const failed = images.filter((c) => c.state === "failed").length;
  const done = images.filter((c) => c.state === "done");
  const finished = done.length + failed;
  const all = finished === images.length;
  const words = [all ? count(images.length, "image") : `${finished} of ${images.length} done`];
  if (failed) words.push(`${failed} failed`);
  if (alone) words.push(`${count(alone, "mask")} without image`);
  const reviewed = done.filter((c) => c.derived.reviewed).length;
  if (reviewed) words.push(`${reviewed} reviewed`);
  // A phantom says nothing about patients.
  const scored = done.filter((c) => c.derived.comparison);
  words.push(...meanDice(scored.filter((c) => !c.phantom), ""),
    ...meanDice(scored.filter((c) => c.phantom), "synthetic phantom"));
  if (done.length > 1) {
    words.push(`${duration(mean(done.map((c) => c.seconds)))} each`);
  }
  by("cases").style.setProperty("--cases", session.cases.length);
  by("progress").max = Math.max(1, images.length);
  by("progress").value = finished;
  by("progress").classList.toggle("finished", all);
  by("status").textContent = words.join(", ");
  by("download-all").disabled = !done.length;
  by("download-table").disabled = !finished;
  by("download-labels").disabled = !done.some((c) => c.derived.reviewed && !c.phantom);
}

/** In words, in a list; nothing of no images. */
function meanDice(scored, what) {
  if (!scored.length) return [];
  const known = scored.filter((c) => c.trainedOn).length;
  const dice = (of) => mean(scored.map((c) => c.derived.comparison[of])).toFixed(3);
  const was = scored.some((c) => c.derived.changed) ? ` (${dice("before")} before correction)` : "";
  const but = known ? ` (the model was trained on ${known} of them)` : "";
  const over = what ? count(scored.length, what) : scored.length;
  return [`mean Dice ${dice("dice")}${was} over ${over}${but}`];
}

/** Have `action` called whenever another case is chosen. */
export function onChoice(action) {
  chosen = action;
}

/** Show a case in the viewer; null closes it. */
export function choose(one) {
  const another = one !== session.chosen;
  if (another) resetZoom();
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
  if (another) chosen();
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
  const dice = (one) => one.derived?.comparison?.dice ?? 2;
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

/** All corrected cases that can still come back. */
export const allCases = () => [...session.cases, ...(removed?.cases ?? [])];

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
  const [one, ...others] = removed?.cases ?? [];
  const what = others.length ? count(others.length + 1, "image") : one?.name;
  words.textContent = removed ? `${what} removed.` : "";
  by("undo").hidden = !removed;
}

export function drawThumbnail(one) {
  const { width, height, grey } = one.prediction;
  const canvas = one.item.querySelector("canvas");
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const place = [
    (canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2,
    width * scale, height * scale,
  ];
  if (!one.thumbnail) { // the image alone, which stays
    one.thumbnail = new OffscreenCanvas(canvas.width, canvas.height);
    const context = one.thumbnail.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(paint(grey, width, GREYS), ...place);
  }
  const context = canvas.getContext("2d");
  context.drawImage(one.thumbnail, 0, 0);
  context.drawImage(paint(one.derived.mask, width, MARKED), ...place);
}

/** Say which files were not taken; they are named as far as there is room. */
export function showIgnored(names) {
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  by("ignored").textContent = names.length
    ? `Ignored, because they are no PNG or ZIP files: ${names.slice(0, 3).join(", ")}${more}.`
    : "";
}
