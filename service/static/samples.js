// Three pictures to begin with, drawn here: a dog on a meadow, a skier, and a boat at sea.

const WIDTH = 640;
const HEIGHT = 480;

export function drawSamples() {
  const scenes = { "dog.jpg": drawDog, "skier.jpg": drawSkier, "boat.jpg": drawBoat };
  return Promise.all(Object.entries(scenes).map(([name, draw]) => drawn(name, draw)));
}

async function drawn(name, draw) {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  draw(canvas.getContext("2d"), dice(name.length));
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  return new File([blob], name, { type: "image/jpeg" });
}

// Numbers from 0 to 1, the same each time.
function dice(seed) {
  let state = seed * 7919;
  return () => (state = (state * 16807) % 2147483647) / 2147483647;
}

function drawDog(pen, roll) {
  shade(pen, 0, 190, ["#8fb7de", "#d7e6ef"]);
  for (let x = -20; x < WIDTH; x += 34) blob(pen, x + 20 * roll(), 170 + 22 * roll(), 44, 40 + 26 * roll(), "#3f6b3a");
  shade(pen, 190, HEIGHT, ["#7ba548", "#4c7d2c"]);
  blades(pen, roll, 200, HEIGHT, ["#5d8f35", "#8bb656", "#3f6d24"]);
  blob(pen, 330, 402, 150, 16, "rgb(30 50 20 / 45%)");
  const coat = "#8a5a2b";
  limb(pen, [[262, 300], [244, 350], [250, 398]], 24, "#6f4620");
  limb(pen, [[392, 300], [420, 345], [412, 398]], 24, "#6f4620");
  limb(pen, [[282, 300], [286, 352], [276, 400]], 26, coat);
  limb(pen, [[410, 296], [446, 336], [452, 392]], 27, coat);
  limb(pen, [[420, 262], [478, 236], [500, 190]], 15, coat);
  blob(pen, 338, 276, 104, 46, coat);
  blob(pen, 276, 268, 52, 46, coat);
  limb(pen, [[262, 258], [222, 212]], 50, coat);
  blob(pen, 206, 196, 40, 35, coat);
  limb(pen, [[200, 204], [160, 214]], 30, "#7c4f25");
  blob(pen, 152, 209, 9, 8, "#1c1410");
  limb(pen, [[166, 226], [160, 240]], 9, "#d9707d");
  limb(pen, [[228, 178], [246, 226]], 24, "#5b3718");
  blob(pen, 194, 187, 5, 5, "#120c08");
  limb(pen, [[236, 240], [262, 222]], 8, "#b32c2c");
  blades(pen, roll, 392, HEIGHT, ["#5d8f35", "#6f9f3f"]);
}

function drawSkier(pen, roll) {
  shade(pen, 0, HEIGHT, ["#3f7fc4", "#a9cdeb"]);
  shape(pen, [[0, 250], [120, 120], [210, 210], [330, 90], [470, 230], [560, 150], [640, 220], [640, 480], [0, 480]], "#8fa3b8");
  shape(pen, [[330, 90], [296, 126], [318, 140], [338, 128], [360, 150], [376, 136]], "#f4f8fb");
  shape(pen, [[120, 120], [90, 154], [116, 164], [134, 150], [154, 154]], "#f4f8fb");
  shape(pen, [[0, 270], [260, 300], [640, 420], [640, 480], [0, 480]], "#e3edf5");
  shape(pen, [[0, 250], [640, 400], [640, 480], [0, 480]], "#f7fafc");
  for (let i = 0; i < 400; i += 1) blob(pen, WIDTH * roll(), 290 + 190 * roll(), 5 * roll(), 1.2, "rgb(140 165 190 / 35%)");
  limb(pen, [[0, 300], [230, 352]], 3, "#c3d3e0");
  limb(pen, [[0, 312], [220, 364]], 3, "#c3d3e0");
  blob(pen, 318, 392, 90, 10, "rgb(90 120 150 / 40%)");
  limb(pen, [[226, 360], [410, 402], [424, 396]], 6, "#1f2937");
  limb(pen, [[216, 372], [398, 414], [412, 408]], 6, "#1f2937");
  limb(pen, [[300, 284], [348, 316], [318, 376]], 28, "#1e293b");
  limb(pen, [[296, 288], [330, 328], [292, 372]], 26, "#273449");
  limb(pen, [[302, 280], [334, 212]], 52, "#c81e1e");
  limb(pen, [[330, 216], [372, 250], [398, 232]], 19, "#a81616");
  limb(pen, [[326, 220], [302, 262], [336, 276]], 19, "#d92b2b");
  limb(pen, [[398, 232], [352, 388]], 4, "#374151");
  limb(pen, [[336, 276], [262, 348]], 4, "#374151");
  blob(pen, 350, 178, 21, 23, "#e0ac86");
  blob(pen, 347, 168, 24, 18, "#111827");
  limb(pen, [[354, 178], [371, 180]], 10, "#f59e0b");
}

function drawBoat(pen, roll) {
  shade(pen, 0, 250, ["#5d9bd6", "#dcebf5"]);
  for (const [x, y] of [[110, 80], [160, 66], [205, 84], [470, 110], [520, 98]]) blob(pen, x, y, 46, 18, "rgb(255 255 255 / 75%)");
  shape(pen, [[0, 250], [90, 222], [170, 240], [250, 250]], "#6f8a86");
  shade(pen, 250, HEIGHT, ["#3d7fa6", "#0f4a70"]);
  for (let i = 0; i < 260; i += 1) {
    const y = 254 + 226 * roll() ** 1.4;
    blob(pen, WIDTH * roll(), y, (y - 230) / 9, 1 + (y - 250) / 110, roll() < 0.5 ? "rgb(255 255 255 / 22%)" : "rgb(8 50 80 / 30%)");
  }
  shape(pen, [[322, 70], [322, 300], [468, 300]], "#fbfbf7");
  shape(pen, [[310, 96], [310, 300], [212, 300]], "#e9edf0");
  limb(pen, [[316, 58], [316, 326]], 6, "#5b4632");
  shape(pen, [[196, 316], [470, 316], [428, 368], [236, 368]], "#9f2d20");
  limb(pen, [[194, 316], [472, 316]], 8, "#f3efe6");
  blob(pen, 388, 292, 11, 12, "#d7a17c");
  limb(pen, [[388, 306], [388, 318]], 22, "#1d4ed8");
  blob(pen, 332, 378, 150, 10, "rgb(255 255 255 / 45%)");
}

function shade(pen, top, bottom, colours) {
  const fill = pen.createLinearGradient(0, top, 0, bottom);
  colours.forEach((colour, i) => fill.addColorStop(i / (colours.length - 1), colour));
  pen.fillStyle = fill;
  pen.fillRect(0, top, WIDTH, bottom - top);
}

function blob(pen, x, y, across, down, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.ellipse(x, y, across, down, 0, 0, 2 * Math.PI);
  pen.fill();
}

function shape(pen, corners, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  corners.forEach(([x, y]) => pen.lineTo(x, y));
  pen.fill();
}

function limb(pen, points, width, colour) {
  Object.assign(pen, { strokeStyle: colour, lineWidth: width, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  points.forEach(([x, y]) => pen.lineTo(x, y));
  pen.stroke();
}

function blades(pen, roll, top, bottom, colours) {
  for (let i = 0; i < 1400; i += 1) {
    const [x, y] = [WIDTH * roll(), top + (bottom - top) * roll()];
    const tall = 3 + (y - 180) / 22;
    limb(pen, [[x, y], [x + 5 * (roll() - 0.5), y - tall]], 1.2, colours[Math.floor(colours.length * roll())]);
  }
}
