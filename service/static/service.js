// What the page asks the service: captions, the model, the depth of the queue. Answers are values, never exceptions.

const KEY = "caption-key";
const NETWORK_PAUSE_S = 2;

export const storedKey = () => sessionStorage.getItem(KEY) ?? "";
export const storeKey = (key) => sessionStorage.setItem(KEY, key);

// -> {body} | {png} | {needsKey} | {comeBackS} | {trouble, detail}
export async function askForCaption(file, options, signal) {
  const query = new URLSearchParams(options);
  const response = await post(`caption?${query}`, file, signal);
  return response.ok ? { body: await response.json(), at: performance.now() } : outcome(response);
}

export async function askForOverlay(file, options) {
  const query = new URLSearchParams(options);
  const response = await post(`caption/explain?${query}`, file);
  return response.ok ? { png: await response.blob() } : outcome(response);
}

// -> {model} | {needsKey} | {trouble}
export async function askForModel() {
  const response = await request("model", { headers: headers() });
  return response.ok ? { model: await response.json() } : outcome(response);
}

// -> {depth, capacity}, or null where this port tells no metrics
export async function askForQueue() {
  const response = await request("metrics", {});
  if (!response.ok) return null;
  const text = await response.text();
  const value = (name) => Number(new RegExp(`^${name} (\\S+)`, "m").exec(text)?.[1]);
  return { depth: value("caption_queue_depth"), capacity: value("caption_queue_capacity") };
}

function post(path, file, signal) {
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  return request(path, { method: "POST", body: file, headers: { ...headers(), "Content-Type": type }, signal });
}

function headers() {
  const key = storedKey();
  return key ? { "X-API-Key": key } : {};
}

async function request(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    return { ok: false, status: options.signal?.aborted ? -1 : 0, error };
  }
}

async function outcome(response) {
  if (response.status === -1) return { aborted: true };
  if (response.status === 0) return { comeBackS: NETWORK_PAUSE_S, trouble: WORDS.unreachable, unreachable: true };
  const { code = "", message = "" } = (await response.json().catch(() => ({}))).error ?? {};
  if (response.status === 401) return { needsKey: true };
  const trouble = WORDS[code] ?? WORDS.other;
  if (response.status === 429 || response.status === 503) {
    return { comeBackS: Number(response.headers.get("Retry-After")) || 1, trouble, detail: message };
  }
  return { trouble, detail: message };
}

const BROKEN = "This photo is damaged: it could not be read to its end.";
const WORDS = {
  no_image: "This file is empty.",
  empty_image: "This file is empty.",
  bad_parameter: "The service does not take these settings.",
  no_attention: "This model cannot show what it looked at.",
  slow_body: "The upload took too long. Is the connection slow?",
  too_large: "This photo is too large for the service.",
  unsupported_media_type: "This is not a photo.",
  unsupported_image: "This is not a photo, or of a type that is not read.",
  undecodable_image: BROKEN,
  invalid_image: BROKEN,
  decode_timeout: "Reading this photo took too long.",
  rate_limited: "Too many requests at once.",
  queue_full: "The service is busy.",
  draining: "The service is shutting down.",
  worker_dead: "The service is being restarted.",
  deadline_exceeded: "The caption took too long.",
  unreachable: "The service could not be reached.",
  other: "Something went wrong inside the service.",
};
