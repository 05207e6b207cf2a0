// The small live panel: the model, its licence note, the queue and the latency.

import { askForModel, askForQueue } from "./service.js";

const BUSY_MS = 2_000;
const IDLE_MS = 10_000;
const REMEMBERED = 50;
const element = (id) => document.getElementById(id);
const tell = (id, text) => { element(id).textContent = text; };

const latencies = [];
let tellsQueue = true;

// The model as /model tells it, or null while it cannot be had; `onKey` is called where a key is asked for.
export async function showModel(onKey) {
  const { model, needsKey, trouble } = await askForModel();
  if (needsKey) {
    showState("waiting for a key", "idle");
    onKey();
    return null;
  }
  if (!model) {
    showState(trouble, "bad");
    return null;
  }
  showState("ready", "good");
  tell("model-name", model.name);
  tell("model-version", model.version);
  tell("model-engine", `${model.engine}, ${model.precision}, ${model.device.toLowerCase()}`);
  tell("licence", model.note ? `${model.licence} (${model.note})` : model.licence);
  return model;
}

export function showState(text, kind) {
  tell("state", text);
  element("state").dataset.kind = kind;
}

export function noteAnswer({ timing }) {
  latencies.push(timing.total_ms);
  if (latencies.length > REMEMBERED) latencies.shift();
  const middle = latencies.toSorted((a, b) => a - b)[Math.floor(latencies.length / 2)];
  tell("latency", `${Math.round(middle)} ms`);
  if (!tellsQueue) tell("queue", `${Math.round(timing.queue_ms)} ms of wait`);
}

// Looks at the queue while the page is seen, more often while it has photos under way.
export async function watchQueue(isBusy) {
  while (tellsQueue) {
    if (!document.hidden) await showQueue();
    await new Promise((done) => setTimeout(done, isBusy() ? BUSY_MS : IDLE_MS));
  }
}

async function showQueue() {
  const queue = await askForQueue().catch(() => null);
  if (queue === null) {
    tellsQueue = false;
    return;
  }
  tell("queue", `${queue.depth} of ${queue.capacity}`);
}
