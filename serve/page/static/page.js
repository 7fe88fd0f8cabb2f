// The page: hands and keys are wired to what they do.

import { anyUnsaved, downloadAll, downloadLabels, downloadMask, downloadPicture, downloadTable }
  from "./downloads.js";
import { fix, healthy, isGrowing, redo, reset, review, toggleLesion, undo }
  from "./correct.js";
import { FN } from "./core/masks.js";
import { add, addDropped, addExample } from "./intake.js";
import { listed, showLesions } from "./lesions.js";
import { offerPoints } from "./points.js";
import * as server from "./server.js";
import { by, drawable, session } from "./session.js";
import {
  cancelled, hideCursor, letGo, moveCursor, moved, pressed, reachBy, released, showTool,
  takeOutAtCursor, takeTool, useTool,
} from "./tools.js";
import { showOverlay } from "./viewer.js";
import { askAgain, lock, start, tryKey, work } from "./work.js";
import { onChoice, remove, sort, step, undo as undoRemoval } from "./worklist.js";
import { showZoom, zoomAt, zoomBy, zoomTo, zoomToFit, zoomToNext } from "./zoom.js";

function listen(id, event, action) {
  by(id).addEventListener(event, action);
}

// Files and list

listen("files", "change", (event) => add([...event.target.files]));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => addExample(button.dataset.example));
}
const takeBack = () => {
  undoRemoval();
  work();
};
listen("clear", "click", () => remove(session.cases));
listen("remove", "click", () => remove([session.chosen]));
listen("undo", "click", takeBack);
listen("sort", "change", sort);
listen("download-all", "click", downloadAll);
listen("download-table", "click", downloadTable);
listen("download-labels", "click", downloadLabels);
listen("retry", "click", () => askAgain([session.chosen]));
listen("key", "submit", tryKey);
onChoice(letGo);

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  addDropped(event.dataTransfer);
});
addEventListener("beforeunload", (event) => {
  if (anyUnsaved()) event.preventDefault();
});

// View

listen("show", "input", (event) => {
  session.view = event.target.value;
  showOverlay();
});
listen("opacity", "input", showOverlay);
listen("zoom-in", "click", () => zoomBy(1));
listen("zoom-out", "click", () => zoomBy(-1));
listen("zoom-fit", "click", zoomToFit);
listen("download-mask", "click", downloadMask);
listen("download-overlay", "click", downloadPicture);
listen("help", "click", () => by("shortcuts").showModal());
addEventListener("resize", () => showZoom());
by("stage").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // a wheel alone scrolls
  event.preventDefault();
  zoomAt(Math.exp(-0.002 * event.deltaY), event);
}, { passive: false });

// Corrections

listen("stage", "pointerdown", pressed);
listen("stage", "pointermove", moved);
listen("stage", "pointerup", released);
listen("stage", "pointercancel", cancelled);
listen("tool", "input", () => {
  fix();
  showTool();
});
listen("reach-less", "click", () => reachBy(-1));
listen("reach-more", "click", () => reachBy(1));
listen("edit-undo", "click", undo);
listen("edit-redo", "click", redo);
listen("edit-reset", "click", reset);
listen("healthy", "click", healthy);
listen("reviewed", "click", review);
listen("lesion-sort", "change", () => showLesions(session.chosen));

const lesionOf = (label) => listed(session.chosen).find((lesion) => lesion.label === label);

/** Take a lesion of the list out, or bring it back. */
function correctListed(label) {
  const lesion = lesionOf(label);
  if (lesion && lesion.kind !== FN) toggleLesion(session.chosen, lesion.start);
  showTool();
}
listen("lesions", "click", (event) => {
  const button = event.target.closest("button"), label = button?.closest("li").dataset.label;
  if (!button) return;
  if (button.className === "take") correctListed(label);
  else zoomTo(lesionOf(label));
});

/** Take out the lesion at the cursor, in the focused row of the list, or that was zoomed to. */
function takeOut() {
  if (!drawable(session.chosen)) return;
  if (document.activeElement === by("stage") && takeOutAtCursor()) return;
  const row = document.activeElement.closest("#lesions li");
  correctListed(row?.dataset.label ?? session.framed);
}

// Keys

/** Choose a view, or the mask if it is chosen already. */
function toggle(view) {
  const input = (value) => document.querySelector(`input[name=show][value=${value}]`);
  if (!drawable(session.chosen) || input(view).disabled) return;
  input(input(view).checked ? "mask" : view).click();
}

/** What was just added grows or shrinks; else the picture does. */
function moreOrLess(steps) {
  if (isGrowing()) reachBy(steps);
  else zoomBy(steps);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: zoomToNext,
  c: () => toggle("truth"),
  o: () => toggle("outline"),
  p: () => toggle("probability"),
  "+": () => moreOrLess(1),
  "=": () => moreOrLess(1),
  "-": () => moreOrLess(-1),
  0: zoomToFit,
  x: takeOut,
  h: healthy,
  r: review,
  l: () => takeTool("lesion"),
  b: () => takeTool("brush"),
  e: () => takeTool("eraser"),
  m: () => takeTool("move"),
  "[": () => reachBy(-1),
  "]": () => reachBy(1),
  z: undo,
  Z: redo,
  y: redo,
  Escape: () => {
    fix();
    hideCursor();
    showTool();
  },
  Delete: () => session.chosen && remove([session.chosen]),
  u: takeBack,
  "?": () => by("shortcuts").showModal(),
};
const WITH_CONTROL = { z: undo, Z: redo, y: redo };

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input[type=password], select, dialog");
  const control = event.ctrlKey || event.metaKey;
  const keys = control ? WITH_CONTROL : KEYS;
  const action = Object.hasOwn(keys, event.key) && keys[event.key];
  if (!action || typing || event.altKey) return;
  event.preventDefault();
  action();
  showTool();
});

listen("stage", "keydown", (event) => {
  if (!drawable(session.chosen) || event.ctrlKey || event.metaKey || event.altKey) return;
  const far = event.shiftKey ? 10 : 1;
  const move = {
    ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far],
  }[event.key];
  if (move) moveCursor(...move);
  else if (event.key === "Enter" || event.key === " ") useTool();
  else return;
  event.preventDefault();
});

listen("cases", "keydown", (event) => {
  const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const next = steps && step(steps);
  if (!next) return;
  event.preventDefault();
  next.item.querySelector("button").focus();
});

// What the server tells of itself. Where it is silent, predictions tell what is wrong.

showTool();
const keyAsked = server.useKey("").then((taken) => taken || lock());
const toldAbout = server.about().then(({ version, model, operating_points: points }) => {
  Object.assign(session, { model, version, points: points ?? {} });
  offerPoints(() => askAgain(session.cases.filter((c) => c.state === "done")));
  by("about").textContent = `Version ${version}, model ${model.name ?? "without a name"}.`;
});
Promise.allSettled([keyAsked, toldAbout]).then(start);
