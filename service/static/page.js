// What happens on the page: photos come in, go to the service at its pace, and show what came back.

import { asCsv, asJson, asText, copy, save } from "./download.js";
import { Feeder } from "./feeder.js";
import { look } from "./look.js";
import { noteAnswer, showModel, showState, watchQueue } from "./panel.js";
import { flash, forget, photoOf, showCaption, showNew, showThumbnail, showTrouble, showWaiting } from "./photos.js";
import { drawSamples } from "./samples.js";
import { askForCaption, storedKey, storeKey } from "./service.js";

const ANNOUNCE_MS = 3_000;
const element = (id) => document.getElementById(id);

let photos = [];
let model = null;
let needsKey = false;
let announcing = 0;
let leaving = new AbortController(); // ends the requests of photos that were cleared

const feeder = new Feeder(send, end);

function add(files) {
  if (!files.length) return;
  if (needsKey) askForKey();
  const added = Array.from(files, photoOf);
  const isFirst = !photos.length;
  photos.push(...added);
  feeder.add(added); // first of all: the cards of hundreds take a while
  showNew(added, { onLook: look, onAgain: again, onRemove: remove, onEdit: showProgress });
  added.forEach(showThumbnail);
  showProgress();
  if (isFirst) element("photos-heading").scrollIntoView({ block: "nearest" });
}

async function send(photo) {
  if (photo.gone) return { aborted: true };
  photo.asked = options();
  const explain = String(model?.has_attention ?? true);
  const outcome = await askForCaption(photo.file, { ...photo.asked, explain }, leaving.signal);
  if (outcome.needsKey) askForKey();
  return outcome;
}

function end(photo, outcome) {
  if (outcome.aborted) return;
  if (outcome.body) {
    photo.body = outcome.body;
    showCaption(photo);
    noteAnswer(outcome.body);
    showState("ready", "good");
    if (model && outcome.body.model.version !== model.version) refreshModel();
  } else {
    showTrouble(photo, outcome);
    if (outcome.unreachable) showState("not reachable", "bad");
  }
  showProgress();
}

function options() {
  const beamSize = element("beam-size").value;
  const most = Number(beamSize || model?.decode.beam_size || 1);
  const maxLength = element("max-length");
  return {
    n: String(Math.min(Number(element("candidates").value), most)),
    ...(beamSize && { beam_size: beamSize }),
    ...(maxLength.value && maxLength.validity.valid && { max_length: maxLength.value }),
  };
}

function again(photo) {
  showWaiting(photo);
  feeder.add([photo]);
  photo.card.focus();
  showProgress();
}

function remove(photo) {
  const next = photo.card.nextElementSibling ?? photo.card.previousElementSibling ?? element("photos-heading");
  feeder.drop((job) => job === photo);
  photos = photos.filter((other) => other !== photo);
  forget(photo);
  next.focus();
  showProgress();
}

function clear() {
  leaving.abort();
  leaving = new AbortController();
  feeder.drop(() => true);
  photos.forEach(forget);
  photos = [];
  showProgress();
  element("photos-heading").focus();
}

// ---- progress

function showProgress() {
  const captioned = photos.filter((photo) => photo.body).length;
  const refused = photos.filter((photo) => photo.trouble).length;
  const done = captioned + refused;
  const text = photos.length ? `${captioned} of ${photos.length} captioned${refused ? `, ${refused} refused` : ""}` : "No photos yet";
  element("progress-text").textContent = text;
  Object.assign(element("progress"), { max: photos.length || 1, value: done, hidden: !photos.length });
  element("toolbar-buttons").hidden = !photos.length;
  for (const id of ["copy-all", "save-csv", "save-json"]) element(id).disabled = !done;
  announce(photos.length === 1 && done ? `${photos[0].name}: ${photos[0].body?.caption ?? photos[0].trouble}` : text);
}

const isBusy = () => photos.some((photo) => !photo.body && !photo.trouble);

// Now and then, and what is true then: a screen reader cannot keep up with hundreds.
function announce(text) {
  element("announcer").dataset.next = text;
  announcing ||= setTimeout(() => {
    announcing = 0;
    element("announcer").textContent = element("announcer").dataset.next;
  }, isBusy() ? ANNOUNCE_MS : 100);
}

// ---- keys

function askForKey() {
  needsKey = true;
  feeder.hold(Infinity);
  const dialog = element("key-dialog");
  if (dialog.open) return;
  element("key-trouble").textContent = storedKey() ? "This key is not known here." : "";
  element("key").value = "";
  dialog.showModal();
}

element("key-dialog").addEventListener("close", () => {
  if (!element("key").value) return; // the next photo asks again
  storeKey(element("key").value);
  begin();
});

// Nothing is sent before the model is known, and what may be asked of it.
async function begin() {
  needsKey = false;
  await refreshModel();
  if (!needsKey) feeder.release();
}

async function refreshModel() {
  model = await showModel(askForKey);
}

// ---- ways in

function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files");
}

for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    element("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget || element("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  element("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});
for (const id of ["choose", "take"]) {
  element(id).addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = "";
  });
}
element("samples").addEventListener("click", async () => add(await drawSamples()));

// ---- all captions

const today = () => new Date().toISOString().slice(0, 10);
element("copy-all").addEventListener("click", async ({ target }) => {
  flash(target, (await copy(asText(photos))) ? "Copied" : "Not copied");
});
element("save-csv").addEventListener("click", () => save(`captions-${today()}.csv`, asCsv(photos), "text/csv"));
element("save-json").addEventListener("click", () => save(`captions-${today()}.json`, asJson(photos), "application/json"));
element("clear").addEventListener("click", clear);
element("settings").addEventListener("submit", (event) => event.preventDefault());

showProgress();
feeder.hold(Infinity);
begin();
watchQueue(isBusy);
