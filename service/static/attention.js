// The photo, lit where the model looked and dim elsewhere, as the service draws it for a PNG.

const DIM = "rgb(0 0 0 / 68%)";
const GLOW = "rgb(255 190 70 / 22%)";

// `picture` is anything a canvas draws; the canvas has its shape. Without weights it is the photo as it is.
export function drawLit(canvas, picture, weights, grid) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  context.drawImage(picture, 0, 0, width, height);
  if (!weights) return;
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = DIM;
  context.fillRect(0, 0, width, height);
  context.drawImage(litPart(picture, weights, grid, width, height), 0, 0);
}

function litPart(picture, weights, grid, width, height) {
  const lit = canvasOf(width, height);
  const context = lit.getContext("2d");
  const { x, y, across, down } = seenBox(grid, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(maskOf(weights), x, y, across, down);
  context.globalCompositeOperation = "source-in";
  context.drawImage(picture, 0, 0, width, height);
  context.globalCompositeOperation = "source-atop";
  context.fillStyle = GLOW;
  context.fillRect(0, 0, width, height);
  return lit;
}

// The box of the photo that the grid fills, in pixels of the canvas.
export function seenBox(grid, width, height) {
  const [scaleX, scaleY] = [width / grid.width, height / grid.height];
  return {
    x: grid.left * scaleX,
    y: grid.top * scaleY,
    across: (grid.right - grid.left) * scaleX,
    down: (grid.bottom - grid.top) * scaleY,
  };
}

function maskOf(weights) {
  const [rows, columns] = [weights.length, weights[0].length];
  const most = Math.max(...weights.flat(), 1e-12);
  const mask = canvasOf(columns, rows);
  const pixels = new ImageData(columns, rows);
  weights.flat().forEach((weight, i) => { pixels.data[4 * i + 3] = Math.round((255 * weight) / most); });
  mask.getContext("2d").putImageData(pixels, 0, 0);
  return mask;
}

function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}
