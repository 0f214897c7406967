// The predictor of a page without a server, see server/predictor.js: the model runs in this browser, in worker.js.

export const PLACE = "Images stay on this device: the model runs in your browser, and nothing of them is sent anywhere.";
export const FORMATS = "JPEG, PNG, WebP, BMP, and what else your browser can show";
export const AT_ONCE = 1; // the next image waits: the device is busy with the one before

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0;

// Loads the model; `tell` is told how far that is.
export async function connect(tell) {
  const response = await fetch("model.json").catch(() => null);
  if (!response?.ok) throw new Error("The model cannot be loaded. Reload this page.");
  const model = await response.json();
  const { computed } = await question({ model }, tell);
  return { ...model, computed };
}

export async function predict(file) {
  return question({ file });
}

function question(asking, tell = () => {}) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject, tell });
    worker.postMessage({ ...asking, number: asked });
  });
}

worker.addEventListener("message", ({ data: { number, progress, problem, said } }) => {
  const { resolve, reject, tell } = waiting.get(number);
  if (progress !== undefined) {
    tell(progress);
    return;
  }
  waiting.delete(number);
  if (problem === undefined) resolve(said);
  else reject(new Error(problem));
});
worker.addEventListener("error", () => {
  for (const { reject } of waiting.values()) reject(new Error("This browser cannot run the model."));
  waiting.clear();
});
