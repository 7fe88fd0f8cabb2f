// Files come in: images, their truths, masks of an earlier day, ZIP files of all of these.

import { bytesOf, textOf } from "./core/png.js";
import { unzip } from "./core/zip.js";
import { imageCrc, LABELS, SOFTWARE } from "./downloads.js";
import { by, imagesOf, isImage, session, stem } from "./session.js";
import { followPicture, giveMask, giveTruth, work } from "./work.js";
import { changed, choose, list, showIgnored, sort } from "./worklist.js";

let adding = Promise.resolve(); // one after the other, for reading a ZIP takes a while

/** Add files, the images among them each with its truth or mask if that came along, now or
 *  earlier. `ignored`: names of what was left out before. */
export function add(files, ignored = []) {
  adding = adding.then(() => addNow(files, [...ignored]));
  return adding;
}

async function addNow(files, ignored) {
  by("files").value = "";
  const found = (await Promise.all(files.map((file) => unpacked(file, ignored)))).flat();
  showIgnored(ignored);
  const images = found.filter(({ images: names }) => !names);
  const others = found.filter(({ images: names }) => names);
  const fresh = images.map((one) => {
    const { file, phantom, healthy } = one;
    const made = list({ name: file.name, file, phantom, state: "waiting" });
    if (healthy) giveMask(made, { reviewed: true });
    return made;
  });
  for (const other of others) {
    const image = imageOf(other);
    if (!image) {
      fresh.push(list(alone(other)));
      continue;
    }
    give(image, other);
    if (others.length === 1 && !images.length) choose(image);
  }
  for (const image of fresh.filter(isImage)) adopt(image);
  const left = fresh.filter((c) => session.cases.includes(c));
  if (left.length && (!session.chosen || images.length === 1)) choose(left[0]);
  for (const one of left) changed(one);
  sort();
  if (left.length) followPicture();
  work();
}

/** What is in a file that came in: {file, images: stems that its image may have, or null if it is
 *  an image itself, text: if this page wrote it as a mask, healthy, phantom}. */
async function unpacked(file, ignored) {
  if (!/\.zip$/i.test(file.name)) return [await sorted(file)];
  try {
    const { files, comment } = await unzip(file);
    const found = [];
    for (const { name, blob } of files) {
      const base = name.split("/").at(-1);
      if (name.includes("__MACOSX") || !/\.png$/i.test(base)) {
        ignored.push(base);
        continue;
      }
      const one = await sorted(new File([blob], base, { type: "image/png" }));
      // Who is among the controls was reviewed and has no tumour, and no mask says so.
      one.healthy = comment === LABELS && name.startsWith("controls/");
      found.push(one);
    }
    return found;
  } catch (error) {
    ignored.push(`${file.name} (${error.message})`);
    return [];
  }
}

async function sorted(file) {
  const { phantom } = file;
  let text = null;
  try {
    text = textOf(await bytesOf(file));
  } catch {
    // Whoever reads it next says that it can't be read.
  }
  if (text?.Software !== SOFTWARE) return { file, images: imagesOf(file.name), phantom };
  return { file, images: [stem(text.Image), ...(imagesOf(file.name) ?? [])], text };
}

/** The image of a truth or mask; several may have one name, and each gets one mask. */
function imageOf({ images: names, text }) {
  const named = session.cases.filter((c) => isImage(c) && names.includes(stem(c.name)));
  if (!text) return named.at(-1);
  const same = (c) => c.prediction && imageCrc(c.prediction) === text["Image CRC-32"];
  return named.find(same) ?? named.find((c) => !c.earlier) ?? named.at(-1);
}

function give(image, { file, text }) {
  if (text) giveMask(image, { file, text, reviewed: text.Reviewed === "yes" });
  else giveTruth(image, file);
}

/** A truth or mask whose image is not here, as a case of its own. */
function alone(other) {
  const { file, images: [name], text } = other;
  const what = text ? "This is a mask that was corrected on this page"
    : "This looks like a truth mask";
  const words = `${what}, but ${name}.png is not here. Add both together.`;
  return { name: file.name, other, state: "failed", status: 400, words };
}

/** A truth or mask that came before its image is no case of its own any more. */
function adopt(image) {
  const waits = (c) => !isImage(c) && c.other.images.includes(stem(image.name));
  for (const found of session.cases.filter(waits)) {
    found.item.remove();
    session.cases = session.cases.filter((c) => c !== found);
    give(image, found.other);
    if (session.chosen === found) choose(image);
  }
}

/** Add all files of a drop, those in folders too. */
export async function addDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [], ignored = [];
  if (!entries.some((entry) => entry.isDirectory)) return add([...transfer.files]);
  while (entries.length) {
    const entry = entries.shift();
    if (entry.isDirectory) {
      const reader = entry.createReader();
      const read = () => new Promise((done, fail) => reader.readEntries(done, fail));
      for (let some = await read(); some.length; some = await read()) entries.push(...some);
    } else if (/\.(png|zip)$/i.test(entry.name) && !entry.name.startsWith("._")) {
      files.push(await new Promise((done, fail) => entry.file(done, fail)));
    } else {
      ignored.push(entry.name);
    }
  }
  return add(files, ignored);
}

/** Add a synthetic phantom, which the server draws, and its truth. */
export async function addExample(number) {
  const names = [`example_${number}.png`, `example_${number}_truth.png`];
  const files = names.map(async (name) => {
    const response = await fetch(name.replace("example_", "examples/"));
    if (!response.ok) throw new Error(name);
    const file = new File([await response.blob()], name, { type: "image/png" });
    return Object.assign(file, { phantom: true });
  });
  try {
    await add(await Promise.all(files));
  } catch {
    by("removed").querySelector("span").textContent =
      "The synthetic phantom could not be fetched from the server.";
  }
}
