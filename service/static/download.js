// Captions to take away: text for the clipboard, CSV for spreadsheets, JSON for programs.

const COLUMNS = ["file", "caption", "edited", "log_probability", "model", "version", "error"];
const FORMULA = /^[=+\-@\t\r]/;

export function asCsv(photos) {
  const rows = photos.map((photo) => {
    const { caption, model } = photo.body ?? {};
    return [
      text(photo.name),
      text(photo.edited ?? caption ?? ""),
      photo.body ? String(isEdited(photo)) : "",
      photo.body ? String(photo.body.log_probability) : "",
      text(model?.name ?? ""),
      text(model?.version ?? ""),
      text(photo.trouble ?? ""),
    ];
  });
  return "\ufeff" + [COLUMNS, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

// A spreadsheet takes what begins like a formula for one.
const text = (value) => (FORMULA.test(value) ? `'${value}` : value);
const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

export function asJson(photos) {
  return JSON.stringify(photos.map(record), null, 1) + "\n";
}

function record(photo) {
  if (!photo.body) return { file: photo.name, error: photo.trouble ?? "not captioned yet" };
  const { caption, log_probability, candidates, model } = photo.body;
  return {
    file: photo.name,
    caption: photo.edited ?? caption,
    ...(isEdited(photo) && { model_caption: caption }),
    log_probability,
    candidates: candidates.map(({ caption, log_probability }) => ({ caption, log_probability })),
    model,
  };
}

export const asText = (photos) =>
  photos.filter((photo) => photo.body).map((photo) => `${photo.name}\t${photo.edited ?? photo.body.caption}`).join("\n");

const isEdited = (photo) => photo.edited !== undefined && photo.edited !== photo.body.caption;

export function save(name, content, type) {
  const link = document.createElement("a");
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Whether it was copied. Without HTTPS browsers have no clipboard but this old one.
export async function copy(content) {
  if (navigator.clipboard) return navigator.clipboard.writeText(content).then(() => true, () => false);
  const area = document.createElement("textarea");
  area.value = content;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}
