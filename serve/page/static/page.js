// The page: files come in, are asked about two at a time, and the chosen one is shown.

import { bodyArea, compare, lesions } from "./masks.js";
import { readGrey } from "./png.js";
import * as server from "./server.js";
import { by, element, imagesOf, session, stem } from "./session.js";
import {
  downloadOverlay, showOverlay, showZoom, zoomAt, zoomBy, zoomToFit, zoomToNext,
} from "./viewer.js";
import {
  changed, choose, downloadAll, downloadTable, drawThumbnail, list, remove, showIgnored, sort,
  step, undo,
} from "./worklist.js";

const AT_ONCE = 2;
let reading = Promise.resolve(); // truths of images that were done before, one after the other
let follow = false; // whether the page moves to the picture once it is there
let ready = false; // nothing is asked before it is known which key and operating points there are

// Files in

/** Add images, each with its truth if that came along, now or earlier. */
function add(files) {
  const truths = files.filter((file) => imagesOf(file.name));
  const images = files.filter((file) => !imagesOf(file.name));
  const fresh = images.map((file) => list({ name: file.name, file, state: "waiting" }));
  for (const file of truths) {
    const names = imagesOf(file.name);
    const image = session.cases.findLast((c) => c.file && names.includes(stem(c.name)));
    if (image) {
      giveTruth(image, file);
      if (truths.length === 1 && !images.length) choose(image);
    } else {
      const words = `This looks like a truth mask, but ${names.at(-1)}.png is not here. ` +
        "Add both together.";
      fresh.push(list({ name: file.name, truthFile: file, state: "failed", status: 400, words }));
    }
  }
  for (const image of fresh.filter((c) => c.file)) adoptTruth(image);
  const left = fresh.filter((c) => session.cases.includes(c));
  if (left.length && (!session.chosen || images.length === 1)) choose(left[0]);
  for (const one of left) changed(one);
  sort();
  by("files").value = "";
  // Where list and picture do not stand side by side, the picture is what people want to see.
  follow = left.length && matchMedia("(max-width: 60rem)").matches;
  work();
}

/** Give an image its truth, and show the comparison. */
function giveTruth(image, file) {
  Object.assign(image, { truthFile: file, truthMask: null });
  session.compare = true;
  if (image.state !== "done") return;
  reading = reading.then(async () => {
    const { mask } = image;
    const judged = await judge(image, image, new AbortController().signal);
    if (image.mask === mask) Object.assign(image, judged); // else a new mask is judged by itself
    changed(image);
  });
}

/** A truth that came before its image is no case of its own any more. */
function adoptTruth(image) {
  const alone = session.cases.find((c) => !c.file && imagesOf(c.name).includes(stem(image.name)));
  if (!alone) return;
  alone.item.remove();
  session.cases = session.cases.filter((c) => c !== alone);
  giveTruth(image, alone.truthFile);
  if (session.chosen === alone) choose(image);
}

/** All files of a drop, those in folders too, and the names of what was left out of folders. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [], ignored = [];
  if (!entries.some((entry) => entry.isDirectory)) return { files: [...transfer.files], ignored };
  while (entries.length) {
    const entry = entries.shift();
    if (entry.isDirectory) {
      const reader = entry.createReader();
      const read = () => new Promise((done, fail) => reader.readEntries(done, fail));
      for (let some = await read(); some.length; some = await read()) entries.push(...some);
    } else if (/\.png$/i.test(entry.name) && !entry.name.startsWith("._")) {
      files.push(await new Promise((done, fail) => entry.file(done, fail)));
    } else {
      ignored.push(entry.name);
    }
  }
  return { files, ignored };
}

async function example(number) {
  const names = [`example_${number}.png`, `example_${number}_truth.png`];
  const files = names.map(async (name) => {
    const response = await fetch(name.replace("example_", "examples/"));
    if (!response.ok) throw new Error(name);
    return new File([await response.blob()], name, { type: "image/png" });
  });
  try {
    add(await Promise.all(files));
  } catch {
    by("removed").querySelector("span").textContent =
      "The synthetic phantom could not be fetched from the server.";
  }
}

// Work

function work() {
  if (!ready || session.locked) return;
  while (session.cases.filter((c) => c.state === "running").length < AT_ONCE) {
    const next = session.cases.find((c) => c.state === "waiting");
    if (!next) break;
    next.state = "running";
    changed(next);
    segment(next).then(work);
  }
}

function askAgain(some) {
  for (const one of some) {
    Object.assign(one, { state: "waiting", words: null });
    changed(one);
  }
  work();
}

/** Ask for one mask and count in it; never rejects. */
async function segment(one) {
  one.stop = new AbortController();
  const { signal } = one.stop;
  const point = session.point;
  try {
    const busy = (seconds) => {
      one.words = `The server is busy; asking again in ${Math.ceil(seconds)} s.`;
      changed(one);
    };
    const answer = await server.predict(one.file, point, signal, busy);
    const { width, height, grey } = await readGrey(answer.png);
    const mask = grey.map((value) => (value > 127 ? 1 : 0));
    const image = await readGrey(one.file, (file) => server.readImage(file, signal));
    if (image.width !== width || image.height !== height) {
      throw new server.Fault(`The mask is ${width}×${height} pixels, the image ` +
        `${image.width}×${image.height}: they do not belong together.`, 0);
    }
    const result = {
      ...answer, width, height, mask, point, grey: image.grey, body: bodyArea(image.grey),
    };
    const judged = await judge(one, result, signal);
    if (signal.aborted) return;
    // The person may have chosen another operating point meanwhile.
    const state = point === session.point ? "done" : "waiting";
    Object.assign(one, result, judged, { state, words: null });
    drawThumbnail(one, image);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) {
      one.state = "waiting";
      lock();
    } else {
      one.state = "failed";
      one.words = error instanceof server.Fault ? error.message
        : "This browser cannot read the image.";
      one.status = error.status ?? 400;
    }
  }
  changed(one);
  if (one !== session.chosen || !follow) return;
  follow = false;
  by("viewer").scrollIntoView();
}

/** The lesions of a case's new `result`, and its comparison with the truth that came along, or a
 *  note why there is none: {lesions, missed, truth, note}. Never rejects. */
async function judge(one, { mask, width, height }, signal) {
  let note = null, truth = null;
  try {
    if (one.truthFile) one.truthMask ??= await readGrey(await server.readLabel(one.truthFile, signal));
  } catch (error) {
    note = `${one.truthFile.name} cannot be compared. ${error.message}`;
  }
  const label = one.truthMask;
  if (label && (label.width !== width || label.height !== height)) {
    note = `${one.truthFile.name} is ${label.width}×${label.height}, the image ${width}×${height}: ` +
      "they cannot be compared.";
  } else if (label) {
    truth = compare(mask, label.grey);
  }
  const missed = truth ? lesions(label.grey, width, mask).filter(({ met }) => !met) : [];
  return { lesions: lesions(mask, width, truth && label.grey), missed, truth, note };
}

// Key and operating point

/** Ask for the key, and for nothing else until it is there. */
function lock() {
  if (session.locked) return;
  session.locked = true;
  by("key").hidden = false;
  for (const one of session.cases) changed(one);
}

async function tryKey(event) {
  event.preventDefault();
  let fault = "";
  try {
    if (!(await server.useKey(by("key-text").value.trim()))) {
      fault = "This is not the key of this server.";
    }
  } catch (error) {
    fault = error.message;
  }
  by("key-fault").textContent = fault;
  by("key-fault").hidden = !fault;
  if (fault) {
    by("key-text").select();
    return;
  }
  session.locked = false;
  by("key").hidden = true;
  for (const one of session.cases) changed(one);
  work();
}

/** Offer the operating points of the model, if it has several, and what each costs. */
function offerPoints() {
  const names = Object.keys(session.points);
  if (names.length < 2) return;
  session.point = names.includes(session.model.operating_point) ? session.model.operating_point
    : names[0];
  const order = ["sensitive", "balanced", "specific"];
  names.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  for (const name of names) {
    const { dice, specificity } = session.points[name];
    const words = [];
    if (dice !== undefined) words.push(`Dice ${dice.toFixed(3)}`);
    if (specificity !== undefined) words.push(`specificity ${Math.round(100 * specificity)} %`);
    const input = element("input");
    Object.assign(input, { type: "radio", name: "point", value: name });
    input.checked = name === session.point;
    input.addEventListener("input", () => {
      session.point = name;
      askAgain(session.cases.filter((c) => c.state === "done"));
    });
    const label = element("label");
    const text = element("span", name[0].toUpperCase() + name.slice(1));
    text.append(element("small", words.join(", ")));
    label.append(input, text);
    by("points").append(label);
  }
  by("points").hidden = false;
}

// Hands and keys

function listen(id, event, action) {
  by(id).addEventListener(event, action);
}

listen("files", "change", (event) => {
  showIgnored([]);
  add([...event.target.files]);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => example(button.dataset.example));
}
const takeBack = () => {
  undo();
  work();
};
listen("clear", "click", () => remove(session.cases));
listen("remove", "click", () => remove([session.chosen]));
listen("undo", "click", takeBack);
listen("sort", "change", sort);
listen("download-all", "click", downloadAll);
listen("download-table", "click", downloadTable);
listen("retry", "click", () => askAgain([session.chosen]));
listen("key", "submit", tryKey);
listen("show", "input", (event) => {
  session.compare = event.target.value === "truth";
  showOverlay();
});
for (const input of document.querySelectorAll("input[name=draw], #opacity")) {
  input.addEventListener("input", showOverlay);
}
listen("zoom-in", "click", () => zoomBy(1));
listen("zoom-out", "click", () => zoomBy(-1));
listen("zoom-fit", "click", zoomToFit);
listen("download-overlay", "click", downloadOverlay);
listen("help", "click", () => by("shortcuts").showModal());
addEventListener("resize", () => showZoom());

by("stage").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // a wheel alone scrolls
  event.preventDefault();
  zoomAt(Math.exp(-0.002 * event.deltaY), event);
}, { passive: false });
listen("stage", "pointermove", (event) => {
  if (event.pointerType !== "mouse" || event.buttons !== 1) return;
  by("stage").scrollLeft -= event.movementX;
  by("stage").scrollTop -= event.movementY;
});

/** Choose the other of two radio buttons, if it can be chosen. */
function toggle(name) {
  const other = document.querySelector(`input[name=${name}]:not(:checked)`);
  if (session.chosen?.state === "done" && !other.disabled) other.click();
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: zoomToNext,
  c: () => toggle("show"),
  o: () => toggle("draw"),
  "+": () => zoomBy(1),
  "=": () => zoomBy(1),
  "-": () => zoomBy(-1),
  0: zoomToFit,
  Delete: () => session.chosen && remove([session.chosen]),
  u: takeBack,
  "?": () => by("shortcuts").showModal(),
};

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input[type=password], select, dialog");
  const action = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (!action || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});

listen("cases", "keydown", (event) => {
  const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const next = steps && step(steps);
  if (!next) return;
  event.preventDefault();
  next.item.querySelector("button").focus();
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const { files, ignored } = await dropped(event.dataTransfer);
  showIgnored(ignored);
  add(files);
});

// What the server tells of itself. Where it is silent, predictions tell what is wrong.

const keyAsked = server.useKey("").then((taken) => taken || lock());
const toldAbout = server.about().then(({ version, model, operating_points: points }) => {
  Object.assign(session, { model, points: points ?? {} });
  offerPoints();
  by("about").textContent = `Version ${version}, model ${model.name ?? "without a name"}.`;
});
Promise.allSettled([keyAsked, toldAbout]).then(() => {
  ready = true;
  work();
});
