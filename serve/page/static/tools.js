// Hands in the picture: the chosen tool gets what pointer and keyboard do there.

import { disc } from "./core/region.js";
import {
  addRegion, brush, extent, fix, growBy, growTo, isGrowing, say, toggleLesion,
} from "./correct.js";
import { MARKED, OUT } from "./core/edits.js";
import { MASK } from "./paint.js";
import { by, drawable, percent, session } from "./session.js";
import { keepInView, scaleNow } from "./zoom.js";

const STILL = 5; // CSS pixels that a click may move
const NEAR = { touch: 10, mouse: 3, pen: 3 }; // CSS pixels around a click in which a lesion counts
const LARGEST_BRUSH = 20;

let radius = 2; // of brush and eraser, in pixels of the image
let cursor = null; // {x, y}: where the keyboard is in the picture
let held = null; // what the pointer does since it was pressed

export const tool = () => document.querySelector("input[name=tool]:checked").value;
const draws = () => tool() === "brush" || tool() === "eraser";
const touchesAlone = (event) => event.pointerType === "touch" && !draws();

/** Choose a tool, by its name. */
export function takeTool(name) {
  const input = document.querySelector(`input[name=tool][value=${name}]`);
  input.checked = true;
  fix();
  showTool();
}

/** Bring the tools up to date with what is chosen. */
export function showTool() {
  by("stage").dataset.tool = tool();
  const grows = isGrowing();
  by("reach-label").textContent = draws() ? "Radius" : "Extent";
  by("reach").textContent = draws() ? `${radius} px` : grows ? `${extent()} px` : "–";
  by("reach-less").disabled = by("reach-more").disabled = !draws() && !grows;
  showCursor();
}

/** A larger or smaller brush, or extent of what was just added; false if neither is in use. */
export function reachBy(steps) {
  if (draws()) radius = Math.min(LARGEST_BRUSH, Math.max(0.5, Math.ceil(radius - 0.5) + steps));
  else if (isGrowing()) growBy(steps);
  else return false;
  showTool();
  return true;
}

// Pointer

/** Where in the image a pointer is: {x, y} in its pixels, not rounded. */
function placeOf(event) {
  const box = by("picture").getBoundingClientRect(), { width, height } = session.chosen.prediction;
  const within = (value, size) => Math.min(size - 0.01, Math.max(0, value));
  return {
    x: within(((event.clientX - box.x) / box.width) * width, width),
    y: within(((event.clientY - box.y) / box.height) * height, height),
  };
}

function indexAt({ x, y }) {
  return Math.floor(y) * session.chosen.prediction.width + Math.floor(x);
}

/** The lesion's pixel that is nearest to a place, at most `reach` away; null if there is none. */
function lesionNear(place, reach) {
  const { derived: { states }, prediction: { width } } = session.chosen;
  const at = indexAt(place);
  if (states[at]) return at;
  const away = (i) => ((i % width) - Math.floor(place.x)) ** 2 +
    (Math.floor(i / width) - Math.floor(place.y)) ** 2;
  const near = disc(states.length, width, at, reach).filter((i) => states[i]);
  return near.length ? near.reduce((a, b) => (away(b) < away(a) ? b : a)) : null;
}

export function pressed(event) {
  const one = session.chosen;
  if (!drawable(one) || !event.isPrimary || !by("picture").contains(event.target)) return;
  if (event.button === 1 || (tool() === "move" && event.button === 0)) {
    if (event.pointerType !== "mouse") return; // the browser scrolls
    held = { pans: true };
  } else if (event.button !== 0) {
    return;
  } else if (draws()) {
    const place = placeOf(event);
    held = { one, stroke: new Set(), last: place, erases: tool() === "eraser" };
    strokeTo(place);
  } else {
    const place = placeOf(event);
    const lesion = lesionNear(place, NEAR[event.pointerType] / scaleNow());
    held = { one, place, lesion, x: event.clientX, y: event.clientY };
    // A finger may be about to scroll, so nothing happens before it is lifted.
    if (lesion === null && event.pointerType !== "touch") addRegion(one, indexAt(place));
  }
  if (!touchesAlone(event)) by("stage").setPointerCapture(event.pointerId);
  showTool();
}

export function moved(event) {
  if (!held || !event.isPrimary) return;
  if (held.pans) {
    by("stage").scrollLeft -= event.movementX;
    by("stage").scrollTop -= event.movementY;
  } else if (held.stroke) {
    for (const one of event.getCoalescedEvents?.() ?? [event]) strokeTo(placeOf(one));
  } else if (held.lesion === null && event.pointerType !== "touch") {
    if (Math.hypot(event.clientX - held.x, event.clientY - held.y) <= STILL) return;
    const { x, y } = placeOf(event);
    const reach = Math.hypot(x - held.place.x, y - held.place.y);
    if (isGrowing()) growTo(reach);
    else addRegion(held.one, indexAt(held.place), reach); // nothing stood out so far
    showTool();
  }
}

export function released(event) {
  if (!held || !event.isPrimary) return;
  const { one, stroke, erases, place, lesion, x, y, pans } = held;
  held = null;
  if (pans) return;
  if (stroke) {
    brush(one, stroke, erases);
  } else if (Math.hypot(event.clientX - x, event.clientY - y) <= STILL) {
    if (lesion !== null) toggleLesion(one, lesion);
    else if (event.pointerType === "touch") addRegion(one, indexAt(place));
  }
  showTool();
}

/** The browser took the pointer over, to scroll. */
export function cancelled() {
  if (held?.stroke) brush(held.one, held.stroke, held.erases);
  held = null;
}

/** Draw on to a place: the pixels are collected, and shown until they are part of the mask. */
function strokeTo(place) {
  const { prediction: { width, grey } } = held.one;
  const { last, stroke, erases } = held;
  const steps = Math.max(1, Math.ceil(Math.hypot(place.x - last.x, place.y - last.y)));
  const context = by("overlay").getContext("2d");
  context.fillStyle = `rgb(${MASK})`;
  for (let n = 0; n <= steps; n++) {
    const at = indexAt({
      x: last.x + ((place.x - last.x) * n) / steps, y: last.y + ((place.y - last.y) * n) / steps,
    });
    for (const i of disc(grey.length, width, at, radius)) {
      if (stroke.has(i)) continue;
      stroke.add(i);
      const where = [i % width, Math.floor(i / width), 1, 1];
      if (erases) context.clearRect(...where);
      else context.fillRect(...where);
    }
  }
  held.last = place;
}

// Keyboard: a cursor in the picture

/** Move the cursor by so many pixels of the image; it begins in the middle of what is in view. */
export function moveCursor(dx, dy) {
  const { width, height } = session.chosen.prediction;
  if (cursor) {
    cursor = {
      x: Math.min(width - 1, Math.max(0, cursor.x + dx)),
      y: Math.min(height - 1, Math.max(0, cursor.y + dy)),
    };
  } else {
    const view = by("stage").getBoundingClientRect();
    const { x, y } = placeOf({
      clientX: view.x + view.width / 2, clientY: view.y + view.height / 2,
    });
    cursor = { x: Math.floor(x), y: Math.floor(y) };
  }
  keepInView(cursor);
  showCursor();
}

export function hideCursor() {
  cursor = null;
  showCursor();
}

/** Do at the cursor what the tool does at a click. */
export function useTool() {
  if (!cursor) return moveCursor(0, 0);
  if (tool() === "move") return;
  const one = session.chosen, { width, grey } = one.prediction;
  const at = indexAt(cursor);
  if (draws()) brush(one, disc(grey.length, width, at, radius), tool() === "eraser");
  else if (!toggleLesion(one, at)) addRegion(one, at);
  showTool();
}

/** Take out or bring back the lesion at the cursor; false if there is no cursor or lesion. */
export function takeOutAtCursor() {
  return Boolean(cursor) && toggleLesion(session.chosen, indexAt(cursor));
}

/** Bring the cursor, and what is told of its pixel, up to date. */
function showCursor() {
  const one = session.chosen;
  by("cursor").hidden = !cursor || !drawable(one);
  if (by("cursor").hidden) {
    by("pixel").textContent = "";
    return;
  }
  const { width, height, grey, probability } = one.prediction, at = indexAt(cursor);
  by("cursor").style.left = `${(100 * (cursor.x + 0.5)) / width}%`;
  by("cursor").style.top = `${(100 * (cursor.y + 0.5)) / height}%`;
  const state = { [MARKED]: "marked", [OUT]: "taken out" }[one.derived.states[at]] ?? "not marked";
  const words = [`column ${cursor.x}, row ${cursor.y}`, `grey ${grey[at]}`, state];
  if (probability) words.splice(2, 0, `probability ${percent(probability[at])}`);
  const text = words.join(", ");
  if (by("pixel").textContent !== text) by("pixel").textContent = text; // it is read out once
}

/** What was chosen changed: nothing in the picture goes on. */
export function letGo() {
  held = cursor = null;
  fix();
  say("");
  showTool();
}
