// Three pictures to begin with, drawn here: a dog on a meadow, a skier, and a surfer.

const WIDTH = 640;
const HEIGHT = 480;

export function drawSamples() {
  const scenes = { "dog.jpg": drawDog, "skier.jpg": drawSkier, "surfer.jpg": drawSurfer };
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

function drawSurfer(pen, roll) {
  shade(pen, 0, 130, ["#9cc4e4", "#d5e6f0"]);
  shade(pen, 130, HEIGHT, ["#2b6f93", "#1b87a0", "#0e5672"]);
  shape(pen, [[0, 150], [150, 96], [330, 84], [520, 120], [640, 170], [640, 330], [0, 350]], "#1f8aa3");
  for (let i = 0; i < 260; i += 1) {
    const [x, y] = [WIDTH * roll(), 110 + 230 * roll()];
    limb(pen, [[x, y], [x + 26, y - 9]], 1.6, roll() < 0.5 ? "rgb(190 235 240 / 32%)" : "rgb(8 60 85 / 35%)");
  }
  for (let i = 0; i < 320; i += 1) {
    const x = WIDTH * roll();
    blob(pen, x, 118 - 40 * Math.sin((Math.PI * x) / WIDTH) + 30 * roll(), 16 * roll(), 9 * roll(), "rgb(255 255 255 / 55%)");
  }
  for (let i = 0; i < 900; i += 1) {
    const [x, y] = [WIDTH * roll(), 320 + 160 * roll() ** 0.8];
    blob(pen, x, y, 26 * roll(), 9 * roll(), roll() < 0.75 ? "rgb(255 255 255 / 50%)" : "rgb(20 100 125 / 35%)");
  }
  limb(pen, [[226, 330], [330, 314], [428, 282]], 15, "#f6f2e8");
  limb(pen, [[232, 333], [330, 318], [424, 287]], 4, "#d9534f");
  limb(pen, [[322, 232], [356, 262], [370, 300]], 21, "#16202c");
  limb(pen, [[314, 234], [292, 272], [300, 314]], 22, "#1d2936");
  limb(pen, [[318, 228], [334, 172]], 40, "#1b2735");
  limb(pen, [[336, 172], [382, 176], [418, 160]], 13, "#1d2936");
  limb(pen, [[326, 172], [286, 196], [252, 180]], 13, "#1d2936");
  blob(pen, 420, 159, 8, 7, "#d7a17c");
  blob(pen, 250, 179, 8, 7, "#d7a17c");
  blob(pen, 344, 136, 17, 19, "#d7a17c");
  blob(pen, 340, 128, 18, 13, "#3b2a1e");
  for (let i = 0; i < 140; i += 1) blob(pen, 200 + 130 * roll(), 318 + 34 * roll(), 12 * roll(), 8 * roll(), "rgb(255 255 255 / 60%)");
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
