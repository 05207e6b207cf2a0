// The dialog that steps through the words of a caption, with the photo lit for each.

import { drawLit } from "./attention.js";
import { save } from "./download.js";
import { percent } from "./photos.js";
import { askForOverlay } from "./service.js";
import { bitmapOf } from "./thumbnails.js";

const SIDE = 1200;
const element = (id) => document.getElementById(id);
const dialog = element("look");
const canvas = element("look-canvas");
const words = element("look-words");
const which = element("look-candidate");
const trouble = element("look-trouble");

let shown = null; // {photo, bitmap}

export async function look(photo) {
  which.replaceChildren(...photo.body.candidates.map((candidate, i) => new Option(candidate.caption, i)));
  element("look-which").hidden = photo.body.candidates.length < 2;
  trouble.textContent = "";
  shown = { photo, bitmap: null };
  fillWords();
  dialog.showModal();
  words.querySelector("input").focus();
  const bitmap = await bitmapOf(photo.file, SIDE).catch(() => null);
  if (shown?.photo !== photo) return bitmap?.close();
  shown.bitmap = bitmap;
  canvas.hidden = !bitmap;
  if (!bitmap) trouble.textContent = "This browser does not show this type of photo. The PNG does.";
  draw();
}

dialog.addEventListener("close", () => {
  shown?.bitmap?.close();
  shown = null;
  Object.assign(canvas, { width: 1, height: 1 }); // gives its memory back
});

which.addEventListener("change", () => {
  fillWords();
  draw();
});

element("look-save").addEventListener("click", async () => {
  const { photo } = shown;
  const { n, ...asked } = photo.asked; // an overlay is of the best candidate alone
  const { png, trouble: why } = await askForOverlay(photo.file, asked);
  if (png) save(`${photo.name.replace(/\.\w+$/, "")}-attention.png`, png);
  else trouble.textContent = why ?? "The key is not taken any more.";
});

const candidate = () => shown.photo.body.candidates[Number(which.value)];

function fillWords() {
  const legend = Object.assign(document.createElement("legend"), { textContent: "Words" });
  words.replaceChildren(legend, ...candidate().words.map(wordChoice));
}

function wordChoice(word, i) {
  const label = Object.assign(document.createElement("label"), { className: "choice" });
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "word", value: i, checked: !i });
  const told = Object.assign(document.createElement("span"), { textContent: word.word });
  const sure = Object.assign(document.createElement("small"), { textContent: percent(Math.exp(word.log_probability)) });
  input.addEventListener("change", draw);
  label.addEventListener("mouseenter", () => {
    input.checked = true;
    draw();
  });
  label.append(input, told, " ", sure);
  return label;
}

function draw() {
  if (!shown?.bitmap) return;
  const word = candidate().words[Number(words.querySelector("input:checked").value)];
  const { bitmap, photo } = shown;
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  drawLit(canvas, bitmap, word.attention, photo.body.attention_grid);
  canvas.setAttribute("aria-label", `The photo, lit where the model looked for “${word.word}”`);
}
