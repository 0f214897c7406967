// Images in, cards out: what is chosen, dropped or pasted goes to this page's own server, a few at a time.

import { Card, saveBlob } from "./cards.js";
import { csv, logistic, logit, percent, pointName, pointNote } from "./numbers.js";

const AT_ONCE = 4; // requests, so that the server has several to predict together
const ATTEMPTS = 20; // of an image while the server is busy

const find = (id) => document.getElementById(id);
const queue = [];
let cards = [];
let model = null;
let token = "";
let running = 0;
let prevalence = 0;

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
}

async function begin() {
  const response = await ask("v1/model").catch(() => null);
  if (response?.status === 401) {
    find("token-form").hidden = false;
    find("token-note").textContent = token ? "That token is not the one." : "";
    find("token").focus();
    return;
  }
  if (!response?.ok) {
    find("status").textContent = "The server does not answer. Reload this page when it does.";
    return;
  }
  model = await response.json();
  find("token-form").hidden = true;
  find("controls").hidden = false;
  describe();
  setPrevalence(model.prevalence);
  work();
}

function describe() {
  const { limits } = model;
  find("point").replaceChildren(...model.operating_points.map((point) => new Option(pointName(point), point.name)));
  find("accepted").textContent = "JPEG, PNG, BMP, TIFF, WebP, HEIC, DICOM; at most "
    + `${Math.floor(limits.bytes / 1e6)} MB and ${Math.floor(limits.pixels / 1e6)} megapixels each.`;
  const data = model.data.map((one) => [one.title, one.licence && `licence ${one.licence}`].filter(Boolean).join(", "));
  find("model").textContent = `Model ${model.digest.slice(0, 12)}, segfusion_jax ${model.version}. `
    + (data.length ? `It learned from ${data.join("; ")}.` : "");
}

function point() {
  return model.operating_points.find((one) => one.name === find("point").value);
}

function setPrevalence(share) {
  prevalence = share;
  find("slider").value = logit(share);
  if (document.activeElement !== find("prevalence")) find("prevalence").value = Number((100 * share).toPrecision(3));
  update();
}

function update() {
  find("point-note").textContent = pointNote(point());
  find("slider").setAttribute("aria-valuetext", percent(prevalence));
  for (const card of cards) card.update(model, point(), prevalence);
  sort();
}

function sort() {
  const last = (card) => card.row === undefined;
  const by = {
    added: (a, b) => a.number - b.number,
    falling: (a, b) => b.row.probability - a.row.probability,
    rising: (a, b) => a.row.probability - b.row.probability,
    novelty: (a, b) => b.said.novelty - a.said.novelty,
    name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  }[find("order").value];
  const needsAnswer = !["added", "name"].includes(find("order").value);
  const sorted = [...cards].sort((a, b) =>
    needsAnswer && (last(a) || last(b)) ? last(a) - last(b) || a.number - b.number : by(a, b));
  if (sorted.some((card, place) => find("cards").children[place] !== card.element)) {
    const focused = document.activeElement;
    find("cards").replaceChildren(...sorted.map((card) => card.element));
    if (find("cards").contains(focused)) focused.focus();
  }
  cards = sorted;
  const answered = cards.filter((card) => card.row).length;
  for (const id of ["csv", "print"]) find(id).disabled = answered === 0;
  find("clear").disabled = cards.length === 0;
  const waiting = queue.length + running;
  find("status").textContent = cards.length === 0 ? ""
    : `${answered} of ${cards.length} images answered${waiting ? `, ${waiting} waiting` : ""}.`;
}

function add(files) {
  for (const file of files) {
    const card = new Card(file, remove);
    cards.push(card);
    find("cards").append(card.element);
    queue.push({ file, card });
  }
  if (model) {
    sort();
    work();
  }
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  cards = cards.filter((one) => one !== card);
  card.element.remove();
  (next?.querySelector("button:enabled") ?? find("files")).focus();
  sort();
}

function work() {
  while (model && running < AT_ONCE && queue.length) {
    const { file, card } = queue.shift();
    if (!cards.includes(card)) continue;
    running++;
    predict(file, card).catch((error) => card.fail(error.message)).finally(() => {
      running--;
      update();
      work();
    });
  }
}

async function predict(file, card) {
  const { bytes } = model.limits;
  if (file.size > bytes) throw new Error(`The file has ${file.size} bytes; at most ${bytes} are taken.`);
  const response = await posted(file, card);
  const body = await response.json();
  if (response.ok) {
    await card.answer(body.predictions[0]);
    return;
  }
  const details = (body.files ?? []).map((one) => one.detail);
  const said = details.length ? `${details.join("; ")}.` : body.detail;
  throw new Error(body.accepted ? `${said} Accepted: ${body.accepted}` : said);
}

async function posted(file, card) {
  for (let attempt = 1; ; attempt++) {
    const form = new FormData();
    form.append("images", file, file.name);
    const response = await ask("v1/predictions?mask=png&pictures=true", { method: "POST", body: form }).catch(() => {
      throw new Error("The server does not answer");
    });
    const seconds = Number(response.headers.get("Retry-After"));
    if (!seconds || attempt === ATTEMPTS || !cards.includes(card)) return response;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

find("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // or the same file could not be chosen again
});
find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value;
  begin();
});
find("point").addEventListener("change", update);
find("order").addEventListener("change", sort);
find("slider").addEventListener("input", (event) => setPrevalence(logistic(Number(event.target.value))));
find("prevalence").addEventListener("input", (event) => {
  const share = Number(event.target.value) / 100;
  if (share > 0 && share < 1) setPrevalence(share);
});
find("own").addEventListener("click", () => setPrevalence(model.prevalence));
find("print").addEventListener("click", () => window.print());
find("clear").addEventListener("click", () => {
  for (const card of cards) card.element.remove();
  cards = [];
  queue.length = 0;
  sort();
});
find("csv").addEventListener("click", () => {
  const rows = cards.filter((card) => card.row).map((card) => card.tableRow(point(), prevalence));
  saveBlob(new Blob([csv(rows)], { type: "text/csv" }), "predictions.csv");
});

addEventListener("paste", (event) => add(event.clipboardData.files));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragged");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  add(event.dataTransfer.files);
});

begin();
