// The images of a study: planes, slices, windows, what is marked, where along the body it lies.
import { greys, Pane } from "./pane.js";
import { Gone, Newest, Pictures } from "./pictures.js";

const KEPT = "firstlook-viewer";
const AHEAD = 3;
const CUT = "rgba(143, 199, 255, .55)";

const stored = () => {
  try { return JSON.parse(localStorage.getItem(KEPT)) || {}; } catch { return {}; }
};
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const make = (name, given = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

export class Viewer {
  // root: the section of the page; its data-view says what there is.
  constructor(root, at) {
    this.root = root;
    this.view = JSON.parse(root.dataset.view);
    this.pictures = new Pictures(root.dataset.base, this.view.token);
    this.choice = stored();
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.canvases = Object.fromEntries([...root.querySelectorAll("canvas[data-plane]")].map((c) => [c.dataset.plane, c]));
    this.listen();
    this.openStack(at?.stack ?? 0, at);
  }

  get state() { return { stack: this.number, at: { ...this.at } }; }

  openStack(number, was) {
    this.number = number;
    const stack = this.stack = this.view.stacks[number];
    this.ct = stack.ct;
    this.segments = stack.segments || [];
    this.at = { axial: stack.start };
    for (const name of ["coronal", "sagittal"]) if (stack.planes[name]) this.at[name] = stack.planes[name].count >> 1;
    if (was?.stack === number) {
      for (const name of Object.keys(this.at)) this.at[name] = Math.min(was.at[name] ?? 0, stack.planes[name].count - 1);
    }
    this.window = stack.windows.find((w) => w.name === this.choice[this.ct ? "ct" : "grey"]) || stack.windows[0];
    this.inverted = false;
    this.heat = null;
    this.root.classList.toggle("single", !stack.planes.coronal);
    const { width, height, mm } = stack.planes.axial;
    this.part("panes").style.aspectRatio = stack.planes.coronal ? "3 / 2" : `${width * mm[0]} / ${height * mm[1]}`;
    this.panes = {};
    this.queues = {};
    for (const [name, canvas] of Object.entries(this.canvases)) {
      const plane = stack.planes[name];
      canvas.parentElement.hidden = !plane;
      if (!plane) continue;
      this.panes[name] = new Pane(canvas, plane);
      this.queues[name] = new Newest();
      const letters = plane.letters || stack.letters;
      canvas.parentElement.querySelectorAll(".letter").forEach((span, k) => { span.textContent = letters[k]; });
    }
    this.layersOf();
    this.controls();
    this.refit();
    this.showAll();
  }

  // What may be drawn over a radiograph besides segments.
  layersOf() {
    const { outlines = [] } = this.stack;
    this.layers = [];
    if (outlines.length) this.layers.push({ name: "Outlines", on: this.choice.outlines !== false, key: "outlines" });
    if (this.stack.heat) this.layers.push({ name: "Saliency", on: this.choice.saliency === true, key: "saliency" });
    for (const s of this.segments) {
      this.layers.push({ name: capital(s.label), colour: s.colour, segment: s, key: `s:${s.label}`, on: this.choice[`s:${s.label}`] ?? s.finding });
    }
    this.panes.axial.extra = [(pen, box) => this.drawHeat(pen, box), (pen, box) => this.drawOutlines(pen, box)];
  }

  isOn(key) { return this.layers.some((l) => l.key === key && l.on); }

  drawHeat(pen, { x, y, w, h }) {
    if (!this.isOn("saliency")) return;
    if (!this.heat) {
      this.heat = new Image();
      this.heat.addEventListener("load", () => this.panes.axial.draw());
      this.heat.src = `${this.root.dataset.base}/heat/${this.view.token}/${this.number}.png`;
    }
    if (this.heat.complete && this.heat.naturalWidth) pen.drawImage(this.heat, x, y, w, h);
  }

  drawOutlines(pen, { x, y, w, h }) {
    if (!this.isOn("outlines")) return;
    const scale = h / this.stack.rows;
    const named = new Set();
    pen.lineWidth = Math.max(2 * (window.devicePixelRatio || 1), h / 450);
    pen.strokeStyle = pen.fillStyle = "#ff9d3c";
    pen.font = `600 ${Math.round(h / 42)}px system-ui, sans-serif`;
    pen.shadowColor = "#000";
    pen.shadowBlur = 4;
    for (const { label, points } of this.stack.outlines) {
      pen.beginPath();
      for (let k = 0; k < points.length; k += 2) pen.lineTo(x + points[k] * scale, y + points[k + 1] * scale);
      pen.stroke();
      if (!named.has(label)) pen.fillText(label, x + points[0] * scale + 6, y + points[1] * scale - 6);
      named.add(label);
    }
    pen.shadowBlur = 0;
  }

  remember(given) {
    Object.assign(this.choice, given);
    try { localStorage.setItem(KEPT, JSON.stringify(this.choice)); } catch { /* not kept */ }
  }

  controls() {
    const { windows, planes, key = [], numbers } = this.stack;
    this.part("windows").replaceChildren(...windows.map((w, k) => this.toggle(`${w.name}`, w === this.window, () => {
      this.remember({ [this.ct ? "ct" : "grey"]: w.name });
      this.window = w;
      this.redraw();
    }, `${w.name}, key ${k + 1}`)), ...(this.ct ? [] : [this.toggle("Invert", this.inverted, () => {
      this.inverted = !this.inverted;
      this.redraw();
    }, "Invert, key i")]));
    this.part("layers").replaceChildren(...this.layers.map((layer) => {
      const button = this.toggle(layer.name, layer.on, () => {
        layer.on = !layer.on;
        this.remember({ [layer.key]: layer.on });
        this.redraw();
      }, `Overlay: ${layer.name}`);
      if (layer.colour) {
        const swatch = make("i", { className: "swatch" });
        swatch.style.background = layer.colour;
        button.prepend(swatch);
      }
      return button;
    }));
    this.part("layers").parentElement.hidden = !this.layers.length;
    const slider = this.part("slice");
    slider.max = planes.axial.count - 1;
    slider.value = this.at.axial;
    this.part("along").hidden = planes.axial.count < 2;
    this.part("numbers").textContent = numbers.length > 1 ? "" : this.stack.title;
    this.coverage();
    this.part("keys").replaceChildren(...key.map((index) => this.thumbnail(index)));
    this.part("keys").hidden = !key.length;
    const chooser = this.part("stacks");
    chooser.parentElement.hidden = this.view.stacks.length < 2;
    chooser.replaceChildren(...this.view.stacks.map((s, k) => make("option", {
      value: String(k), selected: k === this.number, textContent: `${s.title}${s.read ? "" : " (not read by the model)"}`,
    })));
  }

  toggle(text, on, act, label) {
    const button = make("button", { type: "button", textContent: text, title: label });
    button.setAttribute("aria-pressed", String(on));
    button.addEventListener("click", () => { act(); this.controls(); });
    return button;
  }

  // Where along the body each segment lies: one bar a slice, head on the left.
  coverage() {
    const { count } = this.stack.planes.axial;
    const svg = this.part("coverage");
    svg.setAttribute("viewBox", `0 0 ${count} 20`);
    const found = this.segments.filter((s) => s.finding);
    const bars = [];
    for (const s of [...this.segments.filter((one) => !one.finding), ...found]) {
      const most = Math.max(...s.areas);
      s.areas.forEach((area, k) => {
        if (!area) return;
        const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const high = s.finding ? 4 + 16 * Math.sqrt(area / most) : 9 * (area / most);
        for (const [name, value] of Object.entries({ x: k, y: 20 - high, width: 1, height: high, fill: s.finding ? s.colour : "currentColor" })) {
          bar.setAttribute(name, value);
        }
        if (!s.finding) bar.setAttribute("opacity", ".16");
        bars.push(bar);
      });
    }
    const now = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x: this.at.axial + 0.5 - count / 600, width: count / 300, height: 20, y: 0, class: "now" })) now.setAttribute(name, value);
    svg.replaceChildren(...bars, now);
    const on = [...Array(count).keys()].filter((k) => found.some((s) => s.areas[k]));
    svg.setAttribute("aria-label", on.length
      ? `Marked on ${on.length} of ${count} slices, from slice ${on[0] + 1} to ${on.at(-1) + 1}`
      : "Nothing is marked on any slice");
    this.part("told").textContent = this.segments.length
      ? (on.length ? `${capital(found.map((s) => s.label).join(", "))}: ${on.length} of ${count} slices` : "No finding is marked") : "";
  }

  thumbnail(index) {
    const canvas = make("canvas", { width: 96, height: 96 });
    const button = make("button", { type: "button", title: `Go to slice ${index + 1}` }, canvas, `Slice ${index + 1}`);
    button.addEventListener("click", () => this.go("axial", index));
    button.dataset.index = index;
    this.first?.then(() => this.pictures.get(this.number, "axial", index, true)).then((picture) => {
      const pane = new Pane(canvas, this.stack.planes.axial);
      pane.show(picture, greys(this.window.centre, this.window.width, false), this.segments.filter((s) => s.finding));
    }).catch(() => button.remove());
    return button;
  }

  go(plane, index) {
    const { count } = this.stack.planes[plane];
    const to = Math.min(count - 1, Math.max(0, index));
    const by = Math.sign(to - this.at[plane]);
    this.at[plane] = to;
    this.show(plane, by);
    for (const other of Object.keys(this.panes)) if (other !== plane) this.cross(other);
  }

  show(plane, by = 0) {
    const index = this.at[plane];
    if (plane === "axial") this.tellWhere();
    return this.queues[plane].run(async () => {
      try {
        const picture = await this.pictures.get(this.number, plane, index, this.segments.length > 0);
        if (index !== this.at[plane] && this.queues[plane].waiting) return;
        this.panes[plane].show(picture, this.table(), this.on());
        this.cross(plane);
        this.root.dataset.drawn ??= String(Math.round(performance.now()));
        this.part("problem").textContent = "";
        for (let k = 1; by && k <= AHEAD; k += 1) {
          const next = index + by * k;
          if (next >= 0 && next < this.stack.planes[plane].count) this.pictures.get(this.number, plane, next, this.segments.length > 0).catch(() => {});
        }
      } catch (error) {
        if (error instanceof Gone) this.root.dispatchEvent(new CustomEvent("gone"));
        else this.part("problem").textContent = error.message;
      }
    });
  }

  showAll() {
    this.first = this.show("axial");
    this.controls();
    if (!this.panes.coronal) return;
    this.part("told").dataset.making = "yes";
    this.first.then(() => this.show("coronal")).then(() => this.show("sagittal")).then(() => { delete this.part("told").dataset.making; });
  }

  on() { return this.layers.filter((l) => l.segment && l.on).map((l) => l.segment); }

  table() { return greys(this.window.centre, this.window.width, this.inverted); }

  redraw() {
    const table = this.table();
    for (const pane of Object.values(this.panes)) if (pane.picture) pane.show(pane.picture, table, this.on());
    this.tellWhere();
  }

  // Lines where the other planes cut this one.
  cross(name) {
    const share = (plane, mirrored) => {
      const { count } = this.stack.planes[plane];
      const at = (this.at[plane] + 0.5) / count;
      return mirrored ? 1 - at : at;
    };
    const pane = this.panes[name];
    const lines = [];
    if (this.panes.coronal) {
      if (name === "axial") lines.push({ across: true, share: share("coronal") }, { across: false, share: share("sagittal") });
      if (name === "coronal") lines.push({ across: true, share: share("axial") }, { across: false, share: share("sagittal", pane.plane.mirrored) });
      if (name === "sagittal") lines.push({ across: true, share: share("axial") }, { across: false, share: share("coronal", pane.plane.mirrored) });
    }
    pane.lines = this.choice.lines === false ? [] : lines.map((line) => ({ ...line, colour: CUT }));
    pane.draw();
  }

  tellWhere() {
    const { numbers, planes } = this.stack;
    const index = this.at.axial;
    const { count } = planes.axial;
    const image = numbers[index] == null ? "" : ` · image ${numbers[index]}`;
    const where = count > 1 ? `Slice ${index + 1} of ${count}${image}` : this.stack.title;
    const values = this.ct ? ` · width ${Math.round(this.window.width)}, level ${Math.round(this.window.centre)} HU` : "";
    this.part("where").textContent = `${where} · ${this.window.name}${values}`;
    this.part("slice").value = index;
    this.part("slice").setAttribute("aria-valuetext", `Slice ${index + 1} of ${count}`);
    this.part("coverage").querySelector(".now")?.setAttribute("x", index + 0.5 - count / 600);
    for (const button of this.part("keys").children) button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    this.canvases.axial.setAttribute("aria-label", `${this.ct ? "Axial slice" : "Radiograph"} ${count > 1 ? index + 1 : ""}`.trim());
  }

  // The reader points into a plane: the others go there.
  pointTo(name, event) {
    const found = this.panes[name].at(event);
    if (!found || !this.panes.coronal) return;
    const { column, row } = found;
    const { planes } = this.stack;
    const step = planes.coronal.step;
    const flip = (plane, at) => (planes[plane].mirrored ? planes[plane].width - 1 - at : at);
    const to = name === "axial" ? { sagittal: Math.floor(column / step), coronal: Math.floor(row / step) }
      : name === "coronal" ? { sagittal: flip("coronal", column), axial: row } : { coronal: flip("sagittal", column), axial: row };
    for (const [plane, index] of Object.entries(to)) this.go(plane, index);
    this.cross(name);
  }

  listen() {
    for (const [name, canvas] of Object.entries(this.canvases)) {
      canvas.addEventListener("wheel", (event) => {
        if (this.stack.planes[name].count < 2 || event.ctrlKey) return;
        event.preventDefault();
        this.go(name, this.at[name] + Math.sign(event.deltaY));
      }, { passive: false });
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.drag = { x: event.clientX, y: event.clientY, window: { ...this.window } };
        if (event.button === 0 && !event.shiftKey) this.pointTo(name, event);
      });
      canvas.addEventListener("pointermove", (event) => this.move(name, event));
      canvas.addEventListener("pointerleave", () => { this.part("value").textContent = ""; });
    }
    this.part("slice").addEventListener("input", (event) => this.go("axial", Number(event.target.value)));
    this.part("stacks").addEventListener("change", (event) => this.openStack(Number(event.target.value)));
    this.part("coverage").addEventListener("pointerdown", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      this.go("axial", Math.floor(((event.clientX - box.left) / box.width) * this.stack.planes.axial.count));
    });
    new ResizeObserver(() => this.refit()).observe(this.part("panes"));
  }

  move(name, event) {
    const pane = this.panes[name];
    const found = pane?.at(event);
    this.part("value").textContent = this.ct && found?.value !== undefined ? `${found.value} HU` : "";
    if (event.buttons === 1 && !event.shiftKey) this.pointTo(name, event);
    else if (event.buttons === 2 || (event.buttons === 1 && event.shiftKey)) {
      const by = this.drag.window.width / 400;
      this.window = {
        name: "Own window", width: Math.max(1, this.drag.window.width + (event.clientX - this.drag.x) * by),
        centre: this.drag.window.centre + (event.clientY - this.drag.y) * by,
      };
      this.redraw();
    }
  }

  refit() { for (const pane of Object.values(this.panes)) pane.fit(); }

  // Returns whether the key meant something here.
  key(event) {
    const { windows, planes, key = [] } = this.stack;
    const step = { ArrowUp: -1, ArrowLeft: -1, k: -1, ArrowDown: 1, ArrowRight: 1, j: 1 }[event.key];
    if (step && planes.axial.count > 1) this.go("axial", this.at.axial + step);
    else if (event.key === "n" && key.length) this.go("axial", key.find((k) => k > this.at.axial) ?? key[0]);
    else if (/^[1-9]$/.test(event.key) && windows[event.key - 1]) this.part("windows").children[event.key - 1].click();
    else if (event.key === "i" && !this.ct) this.part("windows").lastElementChild.click();
    else if (event.key === "o" && this.layers.length) this.allLayers();
    else return false;
    return true;
  }

  // One key for all: off when any is on, back to what was on before when none is.
  allLayers() {
    if (this.layers.some((l) => l.on)) {
      this.before = this.layers.filter((l) => l.on);
      for (const layer of this.layers) layer.on = false;
    } else for (const layer of this.before || this.layers) layer.on = true;
    this.redraw();
    this.controls();
  }
}
