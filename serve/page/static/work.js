// Images are asked about two at a time, once it is known how; truths are read.

import { derive, loaded, push } from "./core/edits.js";
import { bodyArea } from "./core/masks.js";
import { readGrey } from "./core/png.js";
import { refresh } from "./correct.js";
import { imageCrc } from "./downloads.js";
import * as server from "./server.js";
import { by, session } from "./session.js";
import { changed } from "./worklist.js";

const AT_ONCE = 2;
let ready = false; // nothing is asked before it is known which key and operating points there are
let follow = false; // whether the page moves to the picture once it is there
let reading = Promise.resolve(); // truths of images that were done before, one after the other

/** Begin with the work: key and operating points are known. */
export function start() {
  ready = true;
  work();
}

/** Where list and picture do not stand side by side, the picture is what people want to see. */
export function followPicture() {
  follow = matchMedia("(max-width: 60rem)").matches;
}

export function work() {
  if (!ready || session.locked) return;
  while (session.cases.filter((c) => c.state === "running").length < AT_ONCE) {
    const next = session.cases.find((c) => c.state === "waiting");
    if (!next) break;
    next.state = "running";
    changed(next);
    segment(next).then(work);
  }
}

export function askAgain(some) {
  for (const one of some) {
    Object.assign(one, { state: "waiting", words: null });
    changed(one);
  }
  work();
}

/** Ask for one prediction; never rejects. The corrections of a person stay on top of it. */
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
    const prediction = await decode(answer, one, point, signal);
    await readTruth(one, prediction, signal);
    if (signal.aborted) return;
    one.prediction = prediction;
    while (one.earlier) await useMask(one);
    if (signal.aborted) return;
    // The person may have chosen another operating point meanwhile.
    const state = point === session.point ? "done" : "waiting";
    const { seconds, modelSeconds, trainedOn, warning } = answer;
    Object.assign(one, { state, seconds, modelSeconds, trainedOn, warning,
      body: bodyArea(prediction.grey), words: null });
    refresh(one);
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
    changed(one);
  }
  if (one !== session.chosen || !follow) return;
  follow = false;
  by("viewer").scrollIntoView();
}

/** The prediction in an answer, as pixels; see session.js. Rejects where the browser can't read. */
async function decode({ png, probabilityPng }, { file, prediction: last }, point, signal) {
  const { width, height, grey: values } = await readGrey(png);
  const mask = values.map((value) => (value > 127 ? 1 : 0));
  const probability = probabilityPng && (await readGrey(probabilityPng));
  const image = last ?? (await readGrey(file, (odd) => server.readImage(odd, signal)));
  for (const part of [image, probability]) {
    if (!part || (part.width === width && part.height === height)) continue;
    throw new server.Fault(`The mask is ${width}×${height} pixels, the image ` +
      `${part.width}×${part.height}: they do not belong together.`, 0);
  }
  return Object.freeze({ mask, probability: probability?.grey ?? null, width, height,
    grey: image.grey, point });
}

/** Read the truth of a case, or note why there is none; never rejects. */
async function readTruth(one, { width, height }, signal) {
  one.truth = null;
  if (!one.truthFile) return;
  const { name } = one.truthFile;
  try {
    one.truthMask ??= await readGrey(await server.readLabel(one.truthFile, signal));
  } catch (error) {
    one.note = `${name} cannot be compared. ${error.message}`;
    return;
  }
  const label = one.truthMask;
  if (label.width !== width || label.height !== height) {
    one.note = `${name} is ${label.width}×${label.height}, the image ${width}×${height}: ` +
      "they cannot be compared.";
  } else {
    Object.assign(one, { truth: label.grey, note: null });
  }
}

/** Give an image its truth, and show the comparison. */
export function giveTruth(one, file) {
  Object.assign(one, { truthFile: file, truthMask: null });
  session.view = "truth";
  if (one.state !== "done") return; // it is read along with the prediction
  reading = reading.then(async () => {
    await readTruth(one, one.prediction, new AbortController().signal);
    refresh(one);
  });
}

/** Give an image the mask of an earlier day: {file, text: of its PNG}, as a correction. */
export function giveMask(one, mask) {
  one.earlier = mask;
  if (one.state !== "done") return; // it is used on the prediction
  reading = reading.then(async () => {
    await useMask(one);
    refresh(one);
  });
}

/** Put the mask of an earlier day on top of the prediction; never rejects. */
async function useMask(one) {
  if (!one.earlier) return;
  const { file, text, reviewed } = one.earlier;
  const { prediction } = one;
  one.earlier = null;
  try {
    if (text && text["Image CRC-32"] !== imageCrc(prediction)) {
      throw new Error("It was made of another image of this name.");
    }
    const mask = file ? (await readGrey(file)).grey : new Uint8Array(prediction.mask.length);
    if (mask.length !== prediction.mask.length) throw new Error("It has another size.");
    const { states } = derive(prediction, one.history);
    one.history = push(one.history, loaded(prediction, states, mask, reviewed));
    one.savedEdit = one.history.done.at(-1);
  } catch (error) {
    const why = /^It /.test(error.message) ? error.message : "This browser cannot read it.";
    one.note = `${file.name} is not used. ${why}`;
  }
}

// The key

/** Ask for the key, and for nothing else until it is there. */
export function lock() {
  if (session.locked) return;
  session.locked = true;
  by("key").hidden = false;
  for (const one of session.cases) changed(one);
}

export async function tryKey(event) {
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
