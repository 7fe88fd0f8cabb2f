// One image, one question, one answer; a busy server is asked again.

const MOST_TRIES = 8;
const LONGEST_WAIT = 30; // seconds
const LARGEST_FILE = 64 * 2 ** 20; // what is larger is no projection, and would stall the page

let key = "";

/** What went wrong, in words for people; `status` is the answer's, 0 if there was none. */
export class Fault extends Error {
  constructor(message, status = 400) {
    super(message);
    this.status = status;
  }
}

/** Send `text` as the server's key from now on; it is kept as long as the page is open. */
export function setKey(text) {
  key = text;
}

/** Ask for the mask of `file`. Resolves to {png: Blob, seconds, modelSeconds or null}.
 *  Rejects with a Fault, or with an AbortError when `signal` says so.
 *  `busy(seconds)` is called before each wait for a busy server. */
export async function predict(file, signal, busy) {
  if (file.size > LARGEST_FILE) throw new Fault("The file is too large: over 64 MiB.");
  const body = JSON.stringify({ img: await base64(file) });
  for (let tries = 1; ; tries++) {
    const start = performance.now();
    const response = await send(body, signal);
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
      throw new Fault(sentence(message), response.status);
    }
    const bytes = Uint8Array.from(atob(answer.img), (letter) => letter.charCodeAt(0));
    return {
      png: new Blob([bytes], { type: "image/png" }),
      seconds: (performance.now() - start) / 1000,
      modelSeconds: stage(response.headers.get("Server-Timing") ?? "", "run"),
    };
  }
}

async function send(body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch("predict", { method: "POST", body, signal, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server cannot be reached. Is it running, and are you online?", 0);
  }
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
  return message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}
