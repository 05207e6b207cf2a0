// The list of photos: a card for each, from the moment it is added to its caption or its error.

import { drawLit } from "./attention.js";
import { copy } from "./download.js";
import { thumbnail } from "./thumbnails.js";

const template = document.getElementById("photo-template");
const list = document.getElementById("photos");
const hover = Object.assign(document.createElement("canvas"), { className: "lit" });
hover.setAttribute("aria-hidden", "true");

// A photo: {file, name, card, url, body, edited, trouble}.
export function photoOf(file) {
  return { file, name: file.name || "pasted photo", card: template.content.firstElementChild.cloneNode(true) };
}

const part = (photo, selector) => photo.card.querySelector(selector);

export function showNew(photos, { onLook, onAgain, onRemove, onEdit }) {
  const cards = document.createDocumentFragment();
  for (const photo of photos) {
    const { card } = photo;
    part(photo, ".file").textContent = part(photo, ".file").title = photo.name;
    showWaiting(photo);
    onClick(photo, ".look-button", () => onLook(photo));
    onClick(photo, ".again-button", () => onAgain(photo));
    onClick(photo, ".remove-button", () => onRemove(photo));
    onClick(photo, ".edit-button", () => openEditor(photo));
    onClick(photo, ".copy-button", (button) => copyCaption(photo, button));
    onClick(photo, ".cancel", () => closeEditor(photo));
    prepareEditor(photo, onEdit);
    card.addEventListener("mouseleave", hideLight);
    cards.append(card);
  }
  list.append(cards);
}

export async function showThumbnail(photo) {
  photo.url = await thumbnail(photo.file);
  if (photo.gone) return forget(photo);
  const empty = part(photo, ".empty");
  if (!photo.url) {
    empty.textContent = "no preview";
    return;
  }
  const image = Object.assign(document.createElement("img"), { src: photo.url, decoding: "async", alt: "" });
  image.alt = photo.body ? photo.edited ?? photo.body.caption : photo.name;
  empty.replaceWith(image);
}

export function forget(photo) {
  photo.gone = true;
  photo.card.remove();
  if (photo.url) URL.revokeObjectURL(photo.url);
}

export function showWaiting(photo) {
  delete photo.trouble;
  photo.card.className = "photo waiting";
  part(photo, ".caption").textContent = "Waiting for its caption";
  part(photo, "p.trouble").hidden = true;
  showOnly(photo, []);
}

export function showCaption(photo) {
  photo.card.className = "photo captioned";
  fillCaption(photo);
  const [best, ...others] = photo.body.candidates;
  part(photo, ".sure").hidden = false;
  part(photo, "meter").value = confidence(best);
  part(photo, "meter").setAttribute("aria-label", "Confidence");
  part(photo, ".sure-text").textContent = `${percent(confidence(best))} sure of a word`;
  part(photo, ".others").hidden = !others.length;
  part(photo, ".others summary").textContent = others.length === 1 ? "1 other candidate" : `${others.length} other candidates`;
  part(photo, ".others ol").replaceChildren(...others.map(otherCandidate));
  showOnly(photo, [best.words && ".look-button", ".edit-button", ".copy-button"]);
}

export function showTrouble(photo, { trouble, detail, comeBackS }) {
  photo.trouble = trouble;
  photo.card.className = "photo failed";
  part(photo, ".caption").textContent = "";
  const told = part(photo, "p.trouble");
  told.hidden = false;
  told.textContent = trouble;
  if (detail) told.title = detail;
  showOnly(photo, [comeBackS && ".again-button"]);
}

function showOnly(photo, shown) {
  for (const selector of [".look-button", ".edit-button", ".copy-button", ".again-button"]) {
    part(photo, selector).hidden = !shown.includes(selector);
    part(photo, selector).setAttribute("aria-label", `${part(photo, selector).textContent}: ${photo.name}`);
  }
  part(photo, ".remove-button").setAttribute("aria-label", `Remove: ${photo.name}`);
}

function fillCaption(photo) {
  const caption = part(photo, ".caption");
  const [best] = photo.body.candidates;
  const image = part(photo, "img");
  if (image) image.alt = photo.edited ?? photo.body.caption;
  if (photo.edited !== undefined || !best.words) {
    caption.textContent = photo.edited ?? photo.body.caption;
    return;
  }
  caption.replaceChildren(...best.words.flatMap((word, i) => (i ? [" ", wordSpan(photo, word)] : [wordSpan(photo, word)])));
}

function wordSpan(photo, word) {
  const span = Object.assign(document.createElement("span"), { className: "word", textContent: word.word });
  span.addEventListener("mouseenter", () => showLight(photo, word));
  span.addEventListener("mouseleave", hideLight);
  return span;
}

function showLight(photo, word) {
  const image = part(photo, "img");
  if (!image?.complete || !image.naturalWidth) return;
  Object.assign(hover, { width: image.naturalWidth, height: image.naturalHeight });
  drawLit(hover, image, word.attention, photo.body.attention_grid);
  image.after(hover);
}

function hideLight() {
  hover.remove();
}

function otherCandidate(candidate) {
  const item = document.createElement("li");
  item.textContent = `${candidate.caption} `;
  item.append(Object.assign(document.createElement("small"), { textContent: percent(confidence(candidate)) }));
  return item;
}

// The geometric mean of the probabilities of its words, their end included.
function confidence({ caption, log_probability }) {
  return Math.exp(log_probability / (caption.split(" ").length + 1));
}

export const percent = (share) => `${Math.round(100 * share)} %`;

function onClick(photo, selector, act) {
  const button = part(photo, selector);
  button.addEventListener("click", () => act(button));
}

async function copyCaption(photo, button) {
  const copied = await copy(photo.edited ?? photo.body.caption);
  flash(button, copied ? "Copied" : "Not copied");
}

export function flash(button, text) {
  const before = (button.dataset.text ??= button.textContent);
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}

function prepareEditor(photo, onEdit) {
  const editor = part(photo, ".editor");
  editor.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = part(photo, "textarea").value.trim();
    if (text === photo.body.caption || !text) delete photo.edited;
    else photo.edited = text;
    closeEditor(photo);
    fillCaption(photo);
    onEdit(photo);
  });
  part(photo, "textarea").addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeEditor(photo);
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      editor.requestSubmit();
    }
  });
}

function openEditor(photo) {
  photo.card.classList.add("editing");
  part(photo, ".editor").hidden = false;
  const area = part(photo, "textarea");
  area.value = photo.edited ?? photo.body.caption;
  area.focus();
}

function closeEditor(photo) {
  photo.card.classList.remove("editing");
  part(photo, ".editor").hidden = true;
  part(photo, ".edit-button").focus();
}
