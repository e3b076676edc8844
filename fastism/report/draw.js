// One way of drawing, onto a canvas for the screen and PNG, or into SVG: what is saved is what is seen.

const GLYPHS = { // letters in a box of 1 x 1, y downwards
  A: "M.38 0H.62L1 1H.78L.7 .76H.3L.22 1H0ZM.36 .58H.64L.5 .17Z",
  C: "M.983 .192A.55 .5 0 1 0 .983 .808L.818 .7A.34 .325 0 1 1 .818 .3Z",
  G: "M.983 .192A.55 .5 0 1 0 1 .787V.45H.56V.62H.8V.72A.34 .325 0 1 1 .818 .3Z",
  U: "M0 0H.22V.62A.28 .21 0 0 0 .78 .62V0H1V.62A.5 .38 0 0 1 0 .62Z",
};
const OUTLINES = Object.fromEntries(Object.entries(GLYPHS).map(([letter, d]) => [letter, new Path2D(d)]));

function barsOf(w, h) { // a T; of a tall one the upper bar does not grow with it, or it would look like a pin
  const bar = short(Math.min(0.18, (0.4 * w) / Math.abs(h)));
  return `M0 0H1V${bar}H.66V1H.34V${bar}H0Z`;
}
const FONT = '"Helvetica Neue", Helvetica, Arial, sans-serif';
const BOLD = `bold 100px ${FONT}`;
const measuring = document.createElement("canvas").getContext("2d");

function sizeOf(letter) {
  measuring.font = BOLD;
  const size = measuring.measureText(letter);
  return { left: size.actualBoundingBoxLeft, up: size.actualBoundingBoxAscent,
    width: size.actualBoundingBoxLeft + size.actualBoundingBoxRight || 1,
    height: size.actualBoundingBoxAscent + size.actualBoundingBoxDescent || 1 };
}

class CanvasSurface {
  constructor(context) { this.context = context; }
  rect(x, y, w, h, fill) { this.context.fillStyle = fill; this.context.fillRect(x, y, w, h); }
  circle(x, y, r, fill) {
    const c = this.context;
    c.fillStyle = fill; c.beginPath(); c.arc(x, y, r, 0, 2 * Math.PI); c.fill();
  }
  line(x1, y1, x2, y2, stroke) {
    const c = this.context;
    c.strokeStyle = stroke; c.lineWidth = 1; c.beginPath(); c.moveTo(x1, y1); c.lineTo(x2, y2); c.stroke();
  }
  text(x, y, words, { size = 11, fill, anchor = "start", weight = "normal", turn = 0 }) {
    const c = this.context;
    c.save();
    c.translate(x, y); c.rotate((turn * Math.PI) / 180);
    c.font = `${weight} ${size}px ${FONT}`; c.fillStyle = fill; c.textBaseline = "alphabetic";
    c.textAlign = { start: "left", middle: "center", end: "right" }[anchor];
    c.fillText(words, 0, 0);
    c.restore();
  }
  letter(letter, x, y, w, h, fill) { // a height below 0 turns the letter upside down, below y
    const c = this.context;
    c.save();
    c.fillStyle = fill; c.translate(x, y - h); c.scale(w, h);
    if (letter === "T") c.fill(new Path2D(barsOf(w, h)));
    else if (OUTLINES[letter]) c.fill(OUTLINES[letter]);
    else {
      const size = sizeOf(letter);
      c.scale(1 / size.width, 1 / size.height); c.font = BOLD; c.fillText(letter, size.left, size.up);
    }
    c.restore();
  }
  clip(x, y, w, h, draw) {
    const c = this.context;
    c.save(); c.beginPath(); c.rect(x, y, w, h); c.clip(); draw(); c.restore();
  }
}

const escaped = (words) => String(words).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const short = (number) => +number.toFixed(3);

class SvgSurface {
  constructor(width, height) { this.size = [width, height]; this.parts = []; this.clips = 0; }
  add(name, attributes, words) {
    const given = Object.entries(attributes).map(([k, v]) => ` ${k}="${typeof v === "number" ? short(v) : escaped(v)}"`).join("");
    this.parts.push(words === undefined ? `<${name}${given}/>` : `<${name}${given}>${escaped(words)}</${name}>`);
  }
  rect(x, y, width, height, fill) { this.add("rect", { x, y, width, height, fill, "shape-rendering": "crispEdges" }); }
  circle(cx, cy, r, fill) { this.add("circle", { cx, cy, r, fill }); }
  line(x1, y1, x2, y2, stroke) { this.add("line", { x1, y1, x2, y2, stroke }); }
  text(x, y, words, { size = 11, fill, anchor = "start", weight = "normal", turn = 0 }) {
    const transform = `translate(${short(x)} ${short(y)})${turn ? ` rotate(${turn})` : ""}`;
    this.add("text", { transform, fill, "font-size": size, "font-weight": weight, "text-anchor": anchor, "font-family": FONT }, words);
  }
  letter(letter, x, y, w, h, fill) {
    const place = `translate(${short(x)} ${short(y - h)}) scale(${short(w)} ${short(h)})`;
    const d = letter === "T" ? barsOf(w, h) : GLYPHS[letter];
    if (d) return this.add("path", { d, transform: place, fill, "data-letter": letter });
    const size = sizeOf(letter), fit = `scale(${1 / size.width} ${1 / size.height})`;
    this.add("text", { x: size.left, y: size.up, transform: `${place} ${fit}`, fill, "font-size": 100, "font-weight": "bold", "font-family": FONT }, letter);
  }
  clip(x, y, width, height, draw) {
    const id = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}">`);
    this.add("rect", { x, y, width, height });
    this.parts.push(`</clipPath><g clip-path="url(#${id})">`);
    draw();
    this.parts.push("</g>");
  }
  toString() {
    const [w, h] = this.size;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}">\n${this.parts.join("\n")}\n</svg>\n`;
  }
}

const THEMES = {
  light: {
    ground: "#ffffff", ink: "#2b2f38", soft: "#626a78", line: "#cfd3db", empty: "#e7e9ee", own: "#e3e6eb", dot: "#23262e",
    strip: "#7d8696", veil: "rgb(244 245 248 / 78%)", frame: "#2f5bc4", letters: {},
    scale: ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f8f8f9", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"],
  },
  dark: {
    ground: "#1a1d24", ink: "#d8dce4", soft: "#9ca4b3", line: "#434a57", empty: "#2a2f39", own: "#363d48", dot: "#eef0f4",
    strip: "#98a1b2", veil: "rgb(18 20 25 / 74%)", frame: "#8aabff",
    letters: {
      default: { A: "#3fca78", C: "#6aa8f2", G: "#fcbf49", T: "#ff6f7d", U: "#ff6f7d" },
      colourblind: { A: "#27c9a0", C: "#56b4e9", G: "#f0c04f", T: "#f5843f", U: "#f5843f" },
    },
    scale: ["#d3ebff", "#9cd0fb", "#62ace8", "#3b7fbd", "#2a4c72", "#242933", "#6b3a3c", "#b1504a", "#e2725f", "#f7a993", "#ffdccf"],
  },
};
for (const theme of Object.values(THEMES)) {
  theme.anchors = theme.scale.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
}

function colourOf(theme, share) { // of a share from -1, blue, to 1, red
  if (!Number.isFinite(share)) return theme.empty;
  const place = ((Math.max(-1, Math.min(1, share)) + 1) / 2) * (theme.anchors.length - 1);
  const low = Math.min(Math.floor(place), theme.anchors.length - 2), part = place - low;
  const mixed = theme.anchors[low].map((from, i) => Math.round(from + (theme.anchors[low + 1][i] - from) * part));
  return `rgb(${mixed.join(",")})`;
}
