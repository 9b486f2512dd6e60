// One plane on a canvas: grey values through a window, what is marked over it in colour, lines where other planes cut it.

const LOWEST = 32768;

// Grey of each int16 value in a window (PS3.3 C.11.2.1.2).
export function greys(centre, width, inverted) {
  const table = new Uint32Array(65536);
  for (let k = 0; k < 65536; k += 1) {
    const share = (k - LOWEST - (centre - 0.5)) / Math.max(width - 1, 1) + 0.5;
    const level = Math.round(255 * Math.min(1, Math.max(0, inverted ? 1 - share : share)));
    table[k] = 0xff000000 | (level << 16) | (level << 8) | level;
  }
  return table;
}

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

export class Pane {
  // canvas: where it is drawn; plane: its size in pixels and the size of a pixel, mm.
  constructor(canvas, plane) {
    this.canvas = canvas;
    this.plane = plane;
    this.base = new OffscreenCanvas(plane.width, plane.height);
    this.over = new OffscreenCanvas(plane.width, plane.height);
    this.picture = null;
    this.extra = [];
    this.lines = [];
  }

  // picture: values and marks; table: of `greys`; segments: those switched on.
  show(picture, table, segments) {
    this.picture = picture;
    const { width, height } = this.plane;
    const image = new ImageData(width, height);
    const out = new Uint32Array(image.data.buffer);
    const { values } = picture;
    for (let k = 0; k < out.length; k += 1) out[k] = table[values[k] + LOWEST];
    this.base.getContext("2d").putImageData(image, 0, 0);
    this.colour(segments);
    this.draw();
  }

  // A finding gets a border and a light fill, an organ a border only.
  colour(segments) {
    const { width, height } = this.plane;
    const image = new ImageData(width, height);
    const marks = this.picture?.marks;
    if (marks) {
      for (const { number, colour, finding } of segments) {
        const bit = 1 << (number - 1);
        const [red, green, blue] = rgb(colour);
        for (let y = 0, k = 0; y < height; y += 1) {
          for (let x = 0; x < width; x += 1, k += 1) {
            if (!(marks[k] & bit)) continue;
            const border = x === 0 || y === 0 || x === width - 1 || y === height - 1 || !(marks[k - 1] & bit)
              || !(marks[k + 1] & bit) || !(marks[k - width] & bit) || !(marks[k + width] & bit);
            const alpha = border ? 235 : finding ? 70 : 0;
            if (alpha) image.data.set([red, green, blue, alpha], 4 * k);
          }
        }
      }
    }
    this.over.getContext("2d").putImageData(image, 0, 0);
  }

  // Where the picture lies on the canvas, device pixels.
  place() {
    const { width, height, mm } = this.plane;
    const wide = width * mm[0];
    const high = height * mm[1];
    const scale = Math.min(this.canvas.width / wide, this.canvas.height / high);
    const w = wide * scale;
    const h = high * scale;
    return { x: (this.canvas.width - w) / 2, y: (this.canvas.height - h) / 2, w, h };
  }

  fit() {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.max(1, Math.round(box.width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * ratio));
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { x, y, w, h } = this.place();
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.picture) return;
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.base, x, y, w, h);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.over, x, y, w, h);
    pen.imageSmoothingEnabled = true;
    for (const layer of this.extra) layer(pen, { x, y, w, h }, this.plane);
    pen.lineWidth = Math.max(1, window.devicePixelRatio || 1);
    for (const { across, share, colour } of this.lines) {
      pen.strokeStyle = colour;
      pen.beginPath();
      if (across) {
        pen.moveTo(x, y + share * h);
        pen.lineTo(x + w, y + share * h);
      } else {
        pen.moveTo(x + share * w, y);
        pen.lineTo(x + share * w, y + h);
      }
      pen.stroke();
    }
  }

  // The pixel under an event, and its value; null outside.
  at(event) {
    const ratio = this.canvas.width / this.canvas.getBoundingClientRect().width;
    const { x, y, w, h } = this.place();
    const column = Math.floor(((event.offsetX * ratio - x) / w) * this.plane.width);
    const row = Math.floor(((event.offsetY * ratio - y) / h) * this.plane.height);
    if (column < 0 || row < 0 || column >= this.plane.width || row >= this.plane.height) return null;
    return { column, row, value: this.picture?.values[row * this.plane.width + column] };
  }
}
