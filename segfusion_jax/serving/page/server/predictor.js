// A predictor is what the page asks: PLACE and FORMATS are texts of the page, AT_ONCE says how many images are asked of at
// once, `connect` returns the model's facts and `predict` what is said of an image. This one asks the page's own server.

export const PLACE = "Images go to this server only. They are held in memory while they are looked at, and written nowhere.";
export const FORMATS = "JPEG, PNG, BMP, TIFF, WebP, HEIC, DICOM";
export const AT_ONCE = 4; // so that the server has several to predict together

const ATTEMPTS = 20; // of an image while the server is busy

const find = (id) => document.getElementById(id);
let token = "";

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
}

// Asks the visitor for a token where the server wants one.
export async function connect() {
  for (;;) {
    const response = await ask("v1/model").catch(() => null);
    if (response?.ok) {
      find("token-form").hidden = true;
      return response.json();
    }
    if (response?.status !== 401) throw new Error("The server does not answer. Reload this page when it does.");
    find("token-form").hidden = false;
    find("token-note").textContent = token ? "That token is not the one." : "";
    find("token").focus();
    token = await entered();
  }
}

function entered() {
  return new Promise((resolve) => {
    find("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      resolve(find("token").value);
    }, { once: true });
  });
}

// Returns what is said of an image, its pictures and mask as what can be drawn; tries again as long as it is wanted.
export async function predict(file, isWanted) {
  const response = await posted(file, isWanted);
  const body = await response.json();
  if (response.ok) return drawable(body.predictions[0]);
  const details = (body.files ?? []).map((one) => one.detail);
  const said = details.length ? `${details.join("; ")}.` : body.detail;
  throw new Error(body.accepted ? `${said} Accepted: ${body.accepted}` : said);
}

async function posted(file, isWanted) {
  for (let attempt = 1; ; attempt++) {
    const form = new FormData();
    form.append("images", file, file.name);
    const response = await ask("v1/predictions?mask=png&pictures=true", { method: "POST", body: form }).catch(() => {
      throw new Error("The server does not answer");
    });
    const seconds = Number(response.headers.get("Retry-After"));
    if (!seconds || attempt === ATTEMPTS || !isWanted()) return response;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function drawable(said) {
  const addresses = { ...said.pictures, mask: `data:image/png;base64,${said.mask}` };
  const loading = Object.entries(addresses).map(async ([name, address]) => [name, await loaded(address)]);
  const { mask, ...pictures } = Object.fromEntries(await Promise.all(loading));
  return { ...said, mask, pictures };
}

async function loaded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
