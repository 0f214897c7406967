// The model in a thread of its own: decodes images, runs the ONNX file by ONNX Runtime, and answers the page.

import { disagreement, evidence, lesion, measured, opaque, unchanged } from "./answers.js";

const SIDE = 1024; // pixels of the longer side of pictures, as the server's
const TOLERANCE = 1e-3; // of probabilities, novelty and the mask's area between WebGPU and WebAssembly

let model = null;
let session = null;
let ort = null;

self.addEventListener("message", async ({ data: { number, file, ...rest } }) => {
  const answer = (content, kept = []) => self.postMessage({ number, ...content }, kept);
  try {
    if (file) {
      const said = await predict(file);
      answer({ said }, [said.mask, ...Object.values(said.pictures)]);
    } else {
      model = rest.model;
      answer({ said: { computed: await start((progress) => answer({ progress })) } });
    }
  } catch (error) {
    answer({ problem: error.message });
  }
});

async function start(tell) {
  if (!unchanged(new OffscreenCanvas(64, 64))) {
    throw new Error("This browser changes what pages read from images, as a protection against being recognised. "
      + "So nothing can be said of them: allow this page to read them, or take another browser.");
  }
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  ort = await import(`./runtime/ort.${adapter ? "webgpu" : "wasm"}.min.mjs`);
  ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
  ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;
  const bytes = await loaded("segfusion.onnx", tell);
  tell("Preparing the model …");
  session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const quicker = adapter ? await checked(bytes) : null;
  if (quicker) {
    await session.release();
    session = quicker;
  }
  return quicker ? "It runs on this device’s GPU." : "It runs on one thread of this device’s processor.";
}

async function loaded(address, tell) {
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) throw new Error("The model cannot be loaded. Reload this page.");
  const [parts, total] = [[], model.bytes];
  let done = 0;
  for (const reader = response.body.getReader(); ;) {
    const { value } = await reader.read();
    if (!value) break;
    parts.push(value);
    done += value.length;
    tell(`Loading the model: ${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB …`);
  }
  if (done !== total) throw new Error("The model did not arrive whole. Reload this page.");
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// A session on the GPU, if it says of a drawn lesion what the processor says: drivers are not all right.
async function checked(bytes) {
  try {
    const found = await ort.InferenceSession.create(bytes, { executionProviders: ["webgpu"] });
    const [pixels, width, height] = [new Uint8Array(3 * 96 * 128), 128, 96];
    for (let place = 0; place < width * height; place++) {
      const isLesion = Math.hypot(place % width - 60, Math.floor(place / width) - 50) < 25 + 5 * Math.sin(place % 7);
      pixels.set(isLesion ? [90, 50, 40] : [220, 170, 150], 3 * place);
    }
    const [expected, others] = [await run(session, pixels, width, height), await run(found, pixels, width, height)];
    if (disagreement(expected, others, model.mask_threshold) <= TOLERANCE) return found;
    await found.release();
  } catch (error) {
    console.info(`WebGPU is not used: ${error.message}`);
  }
  return null;
}

async function run(chosen, pixels, width, height) {
  const images = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const outputs = await chosen.run({ images });
  images.dispose();
  return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims }]));
}

async function predict(file) {
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none", imageOrientation: "from-image" }).catch(() => {
    throw new Error("unreadable image: this browser cannot show it");
  });
  const { width, height } = bitmap;
  if (width * height > model.limits.pixels) {
    bitmap.close();
    throw new Error(`oversized image: ${width * height} pixels; at most ${model.limits.pixels} are taken`);
  }
  const pixels = opaque(drawn(width, height, bitmap).getImageData(0, 0, width, height).data);
  const outputs = await run(session, pixels, width, height).catch((error) => {
    throw new Error(`the image cannot be predicted (${error.message})`);
  });
  const isLesion = Uint8Array.from(outputs.mask.data, (value) => value >= model.mask_threshold);
  const said = answered(outputs, isLesion, width, height);
  const mask = await createImageBitmap(lesion(isLesion, new ImageData(width, height)));
  const pictures = await shown(bitmap, outputs);
  bitmap.close();
  return { ...said, mask, pictures };
}

function answered(outputs, isLesion, width, height) {
  const shares = [...outputs.probabilities.data];
  const fallback = model.fallbacks[outputs.fallback.data[0]];
  const [novelty] = outputs.novelty.data;
  if (![...shares, novelty].every(Number.isFinite)) throw new Error("the model returns what is no number");
  return {
    width,
    height,
    probabilities: Object.fromEntries(model.classes.map(({ name }, place) => [name, shares[place]])),
    novelty,
    familiar: novelty <= 1,
    fallback,
    mask_share: isLesion.reduce((sum, value) => sum + value, 0) / isLesion.length,
    measurements: fallback ? null : measured(isLesion, width, height),
  };
}

async function shown(bitmap, outputs) {
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  const [, rows, columns] = outputs.bridged.dims;
  const bridged = new ImageData(columns, rows);
  outputs.bridged.data.forEach((level, place) => { bridged.data[4 * Math.floor(place / 3) + place % 3] = level; });
  for (let place = 3; place < bridged.data.length; place += 4) bridged.data[place] = 255;
  return {
    image: await createImageBitmap(drawn(width, height, bitmap).canvas),
    bridged: await createImageBitmap(bridged),
    evidence: await createImageBitmap(evidence(outputs.evidence, outputs.frame.data, bitmap, new ImageData(width, height))),
  };
}

function drawn(width, height, bitmap) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return context;
}
