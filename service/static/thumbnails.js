// Small copies of photos, made one after the other, so that hundreds of large ones never are in memory at once.

const SIDE = 640;
const QUALITY = 0.82;

let last = Promise.resolve();

// An object URL of a small JPEG, or null for a type that this browser does not show.
export function thumbnail(file) {
  const made = last.then(() => small(file));
  last = made.catch(() => null);
  return last;
}

async function small(file) {
  const bitmap = await bitmapOf(file, SIDE);
  try {
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0);
    return URL.createObjectURL(await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY)));
  } finally {
    bitmap.close();
  }
}

// Upright, `side` wide; tall ones are `side` high. A browser wants one side to be given, and tells only then the other.
export async function bitmapOf(file, side) {
  const bitmap = await createImageBitmap(file, { resizeWidth: side, resizeQuality: "medium" });
  if (bitmap.height <= 2 * side) return bitmap;
  bitmap.close();
  return createImageBitmap(file, { resizeHeight: side, resizeQuality: "medium" });
}
