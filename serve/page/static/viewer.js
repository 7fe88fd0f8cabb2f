// The chosen image: picture and overlay.

import { LEAST, PROBABILITIES, viridis } from "./core/colours.js";
import { OUT } from "./core/edits.js";
import { FN, FP, outline, recoloured, TP } from "./core/masks.js";
import { showFacts, showNotes, showTrust } from "./facts.js";
import { compared, showLabels, showLesions, WORDS } from "./lesions.js";
import { GREYS, MASK, paint } from "./paint.js";
import { by, drawable, element, session, stateWords } from "./session.js";
import { showZoom } from "./zoom.js";

const COLOURS = { [TP]: [40, 205, 100], [FP]: [255, 69, 58], [FN]: [61, 140, 255] };
const ADDED_COLOUR = [40, 225, 240], OUT_COLOUR = [255, 176, 32];
// What a pixel of the overlay is, beside TP, FP and FN.
const MODEL = 4, ADDED = 5, TAKEN = 6;
const PALETTE = [null, COLOURS[TP], COLOURS[FP], COLOURS[FN], MASK, ADDED_COLOUR, OUT_COLOUR];

let drawn = null; // the prediction whose grey pixels are on the canvas

/** Bring the viewer up to date with the chosen case. */
export function show() {
  const one = session.chosen;
  const failed = one.state === "failed";
  by("name").textContent = by("name").title = one.name;
  const { width, height } = one.prediction ?? {};
  by("size").textContent = width ? `${width} × ${height} pixels` : "";
  by("fault").hidden = !failed;
  by("fault").textContent = failed ? one.words : "";
  // What the sender did wrong stays wrong.
  by("retry").hidden = !failed || (one.status > 0 && one.status < 500);
  by("waiting").hidden = one.state !== "waiting" && one.state !== "running";
  const waiting = session.locked ? "Waiting for the server's key." : "Waiting …";
  by("waiting").textContent = one.words ?? (one.state === "running" ? "Segmenting …" : waiting);
  by("result").hidden = by("healthy").disabled = by("reviewed").disabled = !drawable(one);
  by("result").classList.toggle("stale", one.state !== "done");
  if (!drawable(one)) {
    clear();
    return;
  }
  showNotes(one);
  showFacts(one);
  showTrust(one);
  showLesions(one);
  showHistory(one);
  showPicture(one);
}

function showHistory({ history, derived }) {
  by("edit-undo").disabled = by("edit-reset").disabled = !history.done.length;
  by("edit-redo").disabled = !history.undone.length;
  by("reviewed").setAttribute("aria-pressed", derived.reviewed);
}

/** Leave nothing of another image behind. */
function clear() {
  drawn = null;
  by("reviewed").setAttribute("aria-pressed", false);
  for (const canvas of [by("image"), by("overlay")]) canvas.width = canvas.height = 0;
  by("labels").replaceChildren();
  by("picture").removeAttribute("aria-label");
}

function showPicture({ prediction }) {
  if (drawn !== prediction) {
    drawn = prediction;
    for (const canvas of [by("image"), by("overlay")]) {
      canvas.width = prediction.width; // empties it as well
      canvas.height = prediction.height;
    }
    const image = paint(prediction.grey, prediction.width, GREYS);
    by("image").getContext("2d").drawImage(image, 0, 0);
    showZoom();
  }
  showOverlay();
}

/** What is drawn of what was asked for: there may be no truth, or no probability. */
function viewOf(one) {
  if (session.view === "truth" && !one.derived.comparison) return "mask";
  if (session.view === "probability" && !one.prediction.probability) return "mask";
  return session.view;
}

/** Draw the overlay again, and whatever says what its colours mean. */
export function showOverlay() {
  const one = session.chosen;
  if (!drawable(one)) return;
  const { width, height, probability } = one.prediction;
  const radio = (value) => document.querySelector(`input[name=show][value=${value}]`);
  const offer = (value, offered, otherwise) => {
    radio(value).disabled = !offered;
    radio(value).closest("label").title = offered ? "" : otherwise;
  };
  offer("truth", one.derived.comparison, "Add the truth mask of this image to compare");
  offer("probability", probability, "This model's file gives no probability");
  radio(viewOf(one)).checked = true;
  by("opacity-value").textContent = `${by("opacity").value} %`;
  const context = by("overlay").getContext("2d");
  context.clearRect(0, 0, width, height);
  context.drawImage(overlayOf(one), 0, 0);
  by("overlay").style.opacity = by("opacity").value / 100;
  by("picture").setAttribute("aria-label", `${one.name}: ${stateWords(one)}`);
  by("legend").replaceChildren(...legendOf(one));
  showLabels(one);
}

function legendOf(one) {
  const { mask } = one.derived, drawnMask = one.prediction.mask;
  const entries = [];
  const view = viewOf(one);
  if (view === "probability") {
    entries.push(scale());
  } else if (view === "truth") {
    for (const kind of [TP, FP, FN]) entries.push(entry(COLOURS[kind], WORDS[kind]));
  } else {
    entries.push(entry(MASK, "marked by the model"));
    if (one.derived.changed && mask.some((value, i) => value && !drawnMask[i])) {
      entries.push(entry(ADDED_COLOUR, "added by you"));
    }
  }
  if (anyOut(one)) {
    entries.push(entry(OUT_COLOUR, "taken out"));
  }
  return entries;
}

function entry(colour, words) {
  const made = element("li", words);
  const swatch = element("span", "", "swatch");
  swatch.style.backgroundColor = `rgb(${colour})`;
  made.prepend(swatch);
  return made;
}

/** The colours of all probabilities. */
function scale() {
  const made = element("li", "", "scale");
  const bar = element("span", "", "bar");
  const stops = Array.from({ length: 11 }, (_, i) => {
    const share = LEAST + (1 - LEAST) * (i / 10);
    return `rgb(${viridis(share)})`;
  });
  bar.style.backgroundImage = `linear-gradient(90deg, ${stops.join(", ")})`;
  made.append(element("span", `probability of tumour: ${100 * LEAST} %`), bar,
    element("span", "100 %"));
  made.title = `What is below ${100 * LEAST} % is not coloured.`;
  return made;
}

/** What is laid over the image, as a canvas of its size. `taken`: whether what was taken out is
 *  outlined. */
export function overlayOf(one, taken = true) {
  const { width, probability, mask: model } = one.prediction;
  const { states, mask } = one.derived, view = viewOf(one);
  let canvas;
  if (view === "probability") {
    canvas = paint(probability, width, PROBABILITIES);
  } else if (compared(one)) {
    canvas = paint(one.derived.comparison.kinds, width, PALETTE);
  } else {
    // Where what the model marked meets what was added is no edge.
    const kinds = view === "outline" ? outline(mask, width) : mask.slice();
    for (let i = 0; i < kinds.length; i++) if (kinds[i]) kinds[i] = model[i] ? MODEL : ADDED;
    canvas = paint(kinds, width, PALETTE);
  }
  if (taken && anyOut(one)) {
    const out = recoloured(states, [0, 0, TAKEN]);
    canvas.getContext("2d").drawImage(paint(outline(out, width), width, PALETTE), 0, 0);
  }
  return canvas;
}

const anyOut = (one) => one.derived.lesions.some(({ value }) => value === OUT);
