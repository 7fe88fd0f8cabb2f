// The page: files come in, are asked about two at a time, and the chosen one is shown.

import { bodyArea, compare, EXTRA, HIT, lesionAreas, MISSED, outline, readGrey } from "./masks.js";
import { Fault, predict, setKey } from "./server.js";

const AT_ONCE = 2;
// Bright, since most of what they are laid over is black.
const MASK = [255, 77, 208];
const COLOURS = { [HIT]: [40, 205, 100], [EXTRA]: [255, 69, 58], [MISSED]: [61, 140, 255] };
const ZOOMS = [0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];
const TRUTH_NAMES = [
  [/^segmentation_(.+)$/, "patient_$1"],
  [/^(.+)_(?:mask|truth)$/, "$1"],
];

const by = (id) => document.getElementById(id);
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const stem = (name) => name.replace(/\.png$/i, "");

// Each: {name, file, truthFile, state: waiting|running|done|failed, words, status, item,
// and once done: width, height, mask, png, seconds, modelSeconds, areas, body, truth, note}.
let cases = [];
let chosen = null;
let zoom = null; // null fits the image into the stage
let stopped = new AbortController();

// Files in

function truthOf(name) {
  for (const [pattern, image] of TRUTH_NAMES) {
    if (pattern.test(stem(name))) return stem(name).replace(pattern, image);
  }
  return null;
}

/** Add images, each with its truth if that came along, now or earlier. */
function add(files) {
  const truths = files.filter((file) => truthOf(file.name));
  const images = files.filter((file) => !truthOf(file.name));
  const first = cases.length;
  for (const file of images) cases.push(listed({ name: file.name, file, state: "waiting" }));
  for (const file of truths) {
    const image = cases.findLast((c) => c.file && stem(c.name) === truthOf(file.name));
    if (!image) {
      const words = `This looks like a truth mask, but ${truthOf(file.name)}.png is not here. ` +
        "Drop both together.";
      cases.push(listed({ name: file.name, truthFile: file, state: "failed", status: 400, words }));
      continue;
    }
    image.truthFile = file;
    if (image.state === "done") readTruth(image).then(() => changed(image));
  }
  for (const image of images) adoptTruth(cases.find((c) => c.file === image));
  if (cases.length > first && (!chosen || images.length === 1)) choose(cases[first]);
  for (const one of cases.slice(first)) changed(one);
  by("files").value = "";
  work();
}

/** A truth that came before its image is no case of its own any more. */
function adoptTruth(image) {
  const alone = cases.find((c) => !c.file && truthOf(c.name) === stem(image.name));
  if (!alone) return;
  image.truthFile = alone.truthFile;
  alone.item.remove();
  cases = cases.filter((c) => c !== alone);
  if (chosen === alone) choose(image);
}

/** All files of a drop, those in folders too. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  while (entries.length) {
    const entry = entries.shift();
    if (entry.isFile && /\.png$/i.test(entry.name)) {
      files.push(await new Promise((done, fail) => entry.file(done, fail)));
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      const read = () => new Promise((done, fail) => reader.readEntries(done, fail));
      for (let some = await read(); some.length; some = await read()) entries.push(...some);
    }
  }
  return files;
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
    by("status").textContent = "The drawn patient could not be fetched from the server.";
    by("worklist").hidden = false;
  }
}

// Work

function work() {
  while (cases.filter((c) => c.state === "running").length < AT_ONCE) {
    const next = cases.find((c) => c.state === "waiting");
    if (!next) break;
    next.state = "running";
    changed(next);
    segment(next, stopped.signal).then(work);
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
async function segment(one, signal) {
  try {
    const busy = (seconds) => {
      one.words = `The server is busy; asking again in ${Math.ceil(seconds)} s.`;
      changed(one);
    };
    const { png, seconds, modelSeconds } = await predict(one.file, signal, busy);
    const { width, height, grey } = await readGrey(png);
    const mask = grey.map((value) => (value > 127 ? 1 : 0));
    const image = await readGrey(one.file);
    const areas = lesionAreas(mask, width);
    Object.assign(one, { png, seconds, modelSeconds, width, height, mask, areas });
    one.body = bodyArea(image.grey);
    await readTruth(one);
    drawThumbnail(one, image);
    one.state = "done";
  } catch (error) {
    if (signal.aborted) return;
    one.state = "failed";
    one.words = error instanceof Fault ? error.message : "This browser cannot read the image.";
    one.status = error.status ?? 400;
  }
  if (!signal.aborted) changed(one);
}

/** Compare with the truth that was dropped along, or note why that cannot be done. */
async function readTruth(one) {
  one.truth = one.note = null;
  if (!one.truthFile) return;
  const name = one.truthFile.name;
  try {
    const { width, height, grey } = await readGrey(one.truthFile);
    if (width !== one.width || height !== one.height) {
      one.note = `${name} is ${width}×${height}, the image ${one.width}×${one.height}: ` +
        "they cannot be compared.";
    } else if (grey.some((value) => value > 4 && value < 251)) {
      one.note = `${name} holds other values than 0 and 255: it is no mask.`;
    } else {
      one.truth = compare(one.mask, grey.map((value) => (value > 127 ? 1 : 0)));
    }
  } catch {
    one.note = `${name} is no image that this browser can read.`;
  }
}

// The list

function listed(one) {
  one.item = by("case").content.cloneNode(true).querySelector("li");
  one.item.querySelector(".case-name").textContent = one.name;
  one.item.querySelector("button").addEventListener("click", () => choose(one));
  by("cases").append(one.item);
  return one;
}

function stateWords(one) {
  if (one.state === "waiting") return "waiting";
  if (one.state === "running") return one.words ? "server is busy" : "segmenting …";
  if (one.state === "failed") return "failed";
  const found = one.areas.length ? count(one.areas.length, "lesion") : "no lesion";
  return one.truth ? `${found}, Dice ${one.truth.dice.toFixed(2)}` : found;
}

/** Bring list, progress and viewer up to date with a case. */
function changed(one) {
  one.item.dataset.state = one.state;
  one.item.querySelector(".case-state").textContent = stateWords(one);
  const failed = cases.filter((c) => c.state === "failed").length;
  const done = cases.filter((c) => c.state === "done");
  const scores = done.filter((c) => c.truth).map((c) => c.truth.dice);
  const finished = done.length + failed;
  const all = finished === cases.length;
  const words = [all ? count(cases.length, "image") : `${finished} of ${cases.length} done`];
  if (failed) words.push(`${failed} failed`);
  if (scores.length) {
    const mean = scores.reduce((sum, dice) => sum + dice, 0) / scores.length;
    words.push(`mean Dice ${mean.toFixed(3)} over ${scores.length}`);
  }
  by("progress").max = Math.max(1, cases.length);
  by("progress").value = finished;
  by("progress").hidden = all;
  by("status").textContent = words.join(", ");
  if (one === chosen) show();
}

function choose(one) {
  chosen = one;
  for (const other of cases) {
    const current = other === one;
    other.item.querySelector("button").setAttribute("aria-current", current);
    if (current) other.item.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const started = cases.length > 0;
  document.body.classList.toggle("started", started);
  by("worklist").hidden = by("viewer").hidden = !started;
  if (started) show();
}

function clear() {
  stopped.abort();
  stopped = new AbortController();
  cases = [];
  by("cases").replaceChildren();
  choose(null);
  by("files").focus();
}

function drawThumbnail(one, { width, height, grey }) {
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
  context.drawImage(paint(grey, width, (value) => [value, value, value, 255]), ...place);
  context.drawImage(paint(one.mask, width, (marked) => marked && [...MASK, 255]), ...place);
}

// The viewer

function show() {
  const one = chosen;
  by("name").textContent = one.name;
  by("size").textContent = one.width ? `${one.width} × ${one.height} pixels` : "";
  by("fault").hidden = one.state !== "failed";
  // What the sender did wrong stays wrong, unless it was the key.
  by("retry").hidden = one.state !== "failed" || (one.status > 0 && one.status < 500);
  by("key").hidden = one.state !== "failed" || one.status !== 401;
  by("fault").textContent = one.state === "failed" ? one.words : "";
  by("waiting").hidden = one.state !== "waiting" && one.state !== "running";
  by("waiting").textContent = one.words ?? (one.state === "running" ? "Segmenting …" : "Waiting …");
  by("result").hidden = one.state !== "done";
  if (one.state !== "done") return;
  by("show").hidden = !one.truth;
  by("note").hidden = !one.note;
  by("note").textContent = one.note ?? "";
  showFacts(one);
  showDownload(one);
  showPicture(one);
}

function showFacts(one) {
  const area = one.areas.reduce((sum, pixels) => sum + pixels, 0);
  const rest = one.areas.length - 6;
  const each = one.areas.slice(0, 6).join(", ") + (rest > 0 ? ` and ${rest} smaller` : "");
  const ms = (seconds) => `${Math.max(1, Math.round(seconds * 1000)).toLocaleString("en")} ms`;
  const facts = [
    ["lesions", "Lesions", one.areas.length],
    ["area", "Area", count(area, "pixel"), one.areas.length > 1 && `${each}`],
    ["share", "Share of body", one.body ? `${((100 * area) / one.body).toFixed(2)} %` : "no body"],
    ["time", "Time taken", ms(one.seconds), one.modelSeconds && `model ${ms(one.modelSeconds)}`],
  ];
  if (one.truth) {
    facts.push(
      ["dice", "Dice", one.truth.dice.toFixed(3)],
      ["hit", "Found", count(one.truth.hit, "pixel")],
      ["extra", "Too much", count(one.truth.extra, "pixel")],
      ["missed", "Missed", count(one.truth.missed, "pixel")],
    );
  }
  by("facts").replaceChildren(...facts.map(([key, term, value, more]) => {
    const row = document.createElement("div");
    row.dataset.fact = key;
    row.append(element("dt", term), element("dd", value));
    if (more) row.append(element("dd", more));
    return row;
  }));
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function showDownload(one) {
  const link = by("download-mask");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(one.png);
  link.download = `${stem(one.name)}_mask.png`;
}

const picked = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const againstTruth = (one) => one.truth && picked("show") === "truth";

/** What is laid over the image, as a canvas of its size. */
function overlayOf(one) {
  const compared = againstTruth(one);
  const kinds = compared ? one.truth.kinds : one.mask;
  const drawn = picked("draw") === "outline" ? outline(kinds, one.width) : kinds;
  return paint(drawn, one.width, (kind) => kind && [...(compared ? COLOURS[kind] : MASK), 255]);
}

/** A canvas of the size of `values`; `colour` gives [r, g, b, a] of a value, or 0 for none. */
function paint(values, width, colour) {
  const canvas = new OffscreenCanvas(width, values.length / width);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    const rgba = colour(values[i]);
    if (rgba) pixels.data.set(rgba, 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function showPicture(one) {
  const { grey } = await readGrey(one.file);
  if (one !== chosen) return; // another was chosen meanwhile
  for (const canvas of [by("image"), by("overlay")]) {
    canvas.width = one.width;
    canvas.height = one.height;
  }
  const image = paint(grey, one.width, (value) => [value, value, value, 255]);
  by("image").getContext("2d").drawImage(image, 0, 0);
  showOverlay();
  showZoom();
}

function showOverlay() {
  const one = chosen;
  if (one?.state !== "done") return;
  by("opacity-value").textContent = `${by("opacity").value} %`;
  const context = by("overlay").getContext("2d");
  context.clearRect(0, 0, one.width, one.height);
  context.drawImage(overlayOf(one), 0, 0);
  by("overlay").style.opacity = by("opacity").value / 100;
  by("picture").setAttribute("aria-label", `${one.name}: ${stateWords(one)}`);
}

/** The scale at which all of the image is in view, in CSS pixels per pixel. */
function fitting() {
  const stage = by("stage");
  return Math.min(stage.clientWidth / chosen.width, stageHeight() / chosen.height, 3);
}

/** The highest that the stage can be inside its border. */
function stageHeight() {
  const { maxHeight, borderTopWidth } = getComputedStyle(by("stage"));
  return parseFloat(maxHeight) - 2 * parseFloat(borderTopWidth);
}

/** Zoom, and keep in the middle of the stage what was there. */
function showZoom() {
  if (chosen?.state !== "done") return;
  const stage = by("stage"), picture = by("picture");
  const across = (stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth;
  const down = (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight;
  const scale = zoom ?? fitting();
  picture.style.width = `${Math.floor(chosen.width * scale)}px`;
  picture.style.height = `${Math.floor(chosen.height * scale)}px`;
  picture.classList.toggle("enlarged", scale > 1);
  by("zoom-value").textContent = `${Math.round(100 * scale)} %`;
  by("zoom-out").disabled = scale <= ZOOMS[0];
  by("zoom-fit").setAttribute("aria-pressed", !zoom);
  by("zoom-in").disabled = scale >= ZOOMS.at(-1);
  stage.scrollLeft = across * stage.scrollWidth - stage.clientWidth / 2;
  stage.scrollTop = down * stage.scrollHeight - stage.clientHeight / 2;
}

function zoomBy(steps) {
  if (chosen?.state !== "done") return;
  const scale = zoom ?? fitting();
  zoom = steps > 0 ? ZOOMS.find((z) => z > scale + 0.01) : ZOOMS.findLast((z) => z < scale - 0.01);
  zoom ??= scale;
  showZoom();
}

async function downloadOverlay() {
  const one = chosen;
  const canvas = new OffscreenCanvas(one.width, one.height);
  const context = canvas.getContext("2d");
  context.drawImage(by("image"), 0, 0);
  context.globalAlpha = by("opacity").value / 100;
  context.drawImage(overlayOf(one), 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await canvas.convertToBlob());
  link.download = `${stem(one.name)}_overlay.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Hands and keys

by("files").addEventListener("change", (event) => add([...event.target.files]));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => example(button.dataset.example));
}
by("clear").addEventListener("click", clear);
by("retry").addEventListener("click", () => askAgain([chosen]));
by("key").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(by("key-text").value.trim());
  askAgain(cases.filter((c) => c.state === "failed" && c.status === 401));
});
for (const input of document.querySelectorAll("input[type=radio], #opacity")) {
  input.addEventListener("input", showOverlay);
}
by("zoom-in").addEventListener("click", () => zoomBy(1));
by("zoom-out").addEventListener("click", () => zoomBy(-1));
by("zoom-fit").addEventListener("click", () => {
  zoom = null;
  showZoom();
});
by("download-overlay").addEventListener("click", downloadOverlay);
addEventListener("resize", showZoom);

by("stage").addEventListener("keydown", (event) => {
  const action = { "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1) }[event.key];
  if (!action || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  action();
});
by("stage").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // a wheel alone scrolls
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1 : -1);
}, { passive: false });
by("stage").addEventListener("pointermove", (event) => {
  if (event.pointerType !== "mouse" || event.buttons !== 1) return;
  by("stage").scrollLeft -= event.movementX;
  by("stage").scrollTop -= event.movementY;
});

by("cases").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const next = step && cases[cases.indexOf(chosen) + step];
  if (!next) return;
  event.preventDefault();
  choose(next);
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
  add(await dropped(event.dataTransfer));
});

fetch("api").then((response) => response.json()).then(({ version, model }) => {
  const dice = model.dice ? `, Dice ${model.dice}` : "";
  by("about").textContent = `Version ${version}, model ${model.name ?? "without a name"}${dice}.`;
}).catch(() => {}); // the footer stays empty; predictions tell what is wrong
