// What is asked of the server; a busy one is asked again.

const MOST_TRIES = 8;
const LONGEST_WAIT = 30; // seconds
const LARGEST_FILE = 64 * 2 ** 20; // what is larger is no projection, and would stall the page

let key = "";

let givesProbability = true; // until the server says that its model does not

/** What went wrong, in words for people; `status` is the answer's, 0 if there was none; `code` is
 *  the API's. */
export class Fault extends Error {
  constructor(message, status = 400, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** {version, model, operating_points} as far as the server tells. */
export async function about() {
  return (await fetch("api")).json();
}

/** Send `text` as the server's key from now on, as long as the page is open.
 *  Resolves to whether the server takes it; "" asks whether it wants a key at all. */
export async function useKey(text) {
  const response = await send("key", { method: "GET", headers: authorization(text) });
  if (response.ok) key = text;
  return response.status !== 401;
}

/** Ask for the mask of `file`, at the operating point `point` or the model's own if that is null.
 *  Resolves to {png: Blob, probabilityPng: Blob, or null where the model gives none, seconds,
 *  modelSeconds or null, trainedOn, warning: text or ""}.
 *  Rejects with a Fault, or with an AbortError when `signal` says so.
 *  `busy(seconds)` is called before each wait for a busy server. */
export async function predict(file, point, signal, busy) {
  const asked = { ...(point && { operating_point: point }) };
  if (givesProbability) asked.probability = true;
  let answer;
  try {
    answer = await post("predict", file, asked, signal, busy);
  } catch (error) {
    if (error.code !== "no_probability") throw error;
    givesProbability = false;
    return predict(file, point, signal, busy);
  }
  const { png, probabilityPng, headers, seconds } = answer;
  return {
    png,
    probabilityPng,
    seconds,
    modelSeconds: stage(headers.get("Server-Timing") ?? "", "run"),
    trainedOn: headers.get("X-Trained-On") === "true",
    warning: (headers.get("X-Warning") ?? "").split(" | ").map(sentence).join(" "),
  };
}

/** The label in `file` as a plain mask, read as strictly as in training; or a Fault. */
export async function readLabel(file, signal) {
  return (await post("label", file, null, signal, () => {})).png;
}

/** The grey pixels that the server reads in `file`, as a plain PNG; or a Fault. */
export async function readImage(file, signal) {
  return (await post("image", file, null, signal, () => {})).png;
}

async function post(path, file, more, signal, busy) {
  if (file.size > LARGEST_FILE) throw new Fault("The file is too large: over 64 MiB.");
  const body = JSON.stringify({ img: await base64(file), ...more });
  for (let tries = 1; ; tries++) {
    const start = performance.now();
    const headers = { "Content-Type": "application/json", ...authorization(key) };
    const response = await send(path, { method: "POST", body, signal, headers });
    if (response.status === 503 && tries < MOST_TRIES) {
      const asked = Number(response.headers.get("Retry-After"));
      const seconds = Math.min(LONGEST_WAIT, Math.max(0.2, asked > 0 ? asked : tries));
      busy(seconds);
      await pause(seconds, signal);
      continue;
    }
    const answer = await response.json().catch((error) => {
      if (error.name === "AbortError") throw error;
      return {};
    });
    if (!response.ok || !answer.img) {
      const message = answer.error?.message ?? `the server answered ${response.status}`;
      throw new Fault(sentence(message), response.status, answer.error?.code);
    }
    return {
      png: pngOf(answer.img),
      probabilityPng: answer.probability ? pngOf(answer.probability) : null,
      headers: response.headers,
      seconds: (performance.now() - start) / 1000,
    };
  }
}

function pngOf(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server cannot be reached. Is it running, and are you online?", 0);
  }
}

function authorization(text) {
  // A header holds bytes, and a key may hold any letter.
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return text ? { Authorization: `Bearer ${bytes}` } : {};
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1] ?? "");
    reader.onerror = () => reject(new Fault("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

function stage(timing, name) {
  const found = timing.match(new RegExp(`(?:^|, *)${name};dur=([\\d.]+)`));
  return found ? found[1] / 1000 : null;
}

function sentence(message) {
  if (!message) return "";
  return message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}
