// The figure: a logo above a heatmap, with axes. A `map` holds what is drawn of one sequence and one target:
// letters, delta (P x A), heights (P), alphabet, colours, limits {low, high, reach}, signed, coordinate(i), place, metric, rule.

const MOST_LETTERS = 3; // pixels per position below which bars stand in for letters

function steps(low, high, count) { // round numbers between two ends
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) found.push(n * step);
  return { step, found };
}

function layout(width, height, size) {
  const narrow = width < 520, left = narrow ? 46 : 62, right = width - (narrow ? 62 : 84), logoTop = 10, bottom = height - 50;
  const heat = Math.max(size * 9, Math.min(size * 27, 0.36 * height));
  return { width, height, left, right, logoTop, logoBottom: bottom - heat - 14, heatTop: bottom - heat, heatBottom: bottom, row: heat / size };
}

const xOf = (box, view, i) => box.left + ((i - view.lo) / (view.hi - view.lo)) * (box.right - box.left);
const positionAt = (box, view, x) => view.lo + ((x - box.left) / (box.right - box.left)) * (view.hi - view.lo);
const snapped = (x) => Math.round(x * 2) / 2;

function drawFigure(surface, box, map, view, theme) {
  const pixels = (box.right - box.left) / (view.hi - view.lo);
  const first = Math.max(0, Math.floor(view.lo)), last = Math.min(map.letters.length, Math.ceil(view.hi));
  surface.rect(0, 0, box.width, box.height, theme.ground);
  drawLogo(surface, box, map, view, theme, pixels, first, last);
  surface.clip(box.left, box.heatTop, box.right - box.left, box.heatBottom - box.heatTop, () =>
    drawHeat(surface, box, map, view, theme, pixels, first, last));
  [...map.alphabet].forEach((letter, k) => {
    const y = box.heatTop + (k + 0.5) * box.row;
    surface.text(box.left - 9, y + 4.2, letter, { size: 12, fill: map.colours[letter] || theme.ink, anchor: "end", weight: "bold" });
  });
  drawCoordinates(surface, box, map, view, theme, pixels, first, last);
  drawColourBar(surface, box, map, theme);
}

function drawLogo(surface, box, map, view, theme, pixels, first, last) {
  const { low, high } = map.limits, room = 0.05 * (high - low || 1);
  const yOf = (v) => box.logoBottom - ((v - low + room) / (high - low + 2 * room || 1)) * (box.logoBottom - box.logoTop);
  const zero = yOf(0);
  for (const value of steps(low, high, 4).found) {
    const y = Math.round(yOf(value)) + 0.5;
    surface.line(box.left - 4, y, box.left, y, theme.line);
    surface.text(box.left - 8, y + 3.7, number(value, 3), { size: 10.5, fill: theme.soft, anchor: "end" });
  }
  surface.line(box.left - 0.5, box.logoTop, box.left - 0.5, box.logoBottom, theme.line);
  surface.text(12, (box.logoTop + box.logoBottom) / 2, `importance (${map.rule})`, { size: 11, fill: theme.soft, anchor: "middle", turn: -90 });
  surface.line(box.left, Math.round(zero) + 0.5, box.right, Math.round(zero) + 0.5, theme.line);
  surface.clip(box.left, box.logoTop - 8, box.right - box.left, box.logoBottom - box.logoTop + 12, () => {
    if (pixels < 1) return drawColumns(surface, box, map, view, yOf, zero);
    for (let i = first; i < last; i++) {
      const value = map.heights[i], letter = map.letters[i];
      if (!value || letter === "N") continue;
      const x = xOf(box, view, i), y = yOf(value), fill = map.colours[letter] || theme.ink;
      if (pixels >= MOST_LETTERS) surface.letter(letter, x + 0.03 * pixels, zero, 0.94 * pixels, zero - y, fill);
      else surface.rect(x, Math.min(y, zero), pixels, Math.abs(y - zero), fill);
    }
  });
}

function columns(box, map, view, draw) { // calls draw(x, from, to) with the positions under each pixel
  for (let x = box.left; x < box.right; x++) {
    const from = Math.max(0, Math.floor(positionAt(box, view, x)));
    const to = Math.min(map.letters.length, Math.max(from + 1, Math.floor(positionAt(box, view, x + 1))));
    if (from < to) draw(x, from, to);
  }
}

function strongest(values, from, to) {
  let found = from;
  for (let i = from; i < to; i++) if (Math.abs(values[i]) > Math.abs(values[found])) found = i;
  return found;
}

function drawColumns(surface, box, map, view, yOf, zero) {
  columns(box, map, view, (x, from, to) => {
    const i = strongest(map.heights, from, to), y = yOf(map.heights[i]);
    surface.rect(x, Math.min(y, zero), 1, Math.abs(y - zero), map.colours[map.letters[i]] || "#888");
  });
}

function drawHeat(surface, box, map, view, theme, pixels, first, last) {
  const size = map.alphabet.length, reach = map.limits.reach || 1;
  const top = (k) => snapped(box.heatTop + k * box.row);
  if (pixels < 1) {
    return columns(box, map, view, (x, from, to) => {
      for (let k = 0; k < size; k++) {
        let value = 0;
        for (let i = from; i < to; i++) if (Math.abs(map.delta[i * size + k]) > Math.abs(value)) value = map.delta[i * size + k];
        surface.rect(x, top(k), 1, top(k + 1) - top(k), colourOf(theme, value / reach));
      }
    });
  }
  for (let i = first; i < last; i++) {
    const x = snapped(xOf(box, view, i)), w = snapped(xOf(box, view, i + 1)) - x, own = map.alphabet.indexOf(map.letters[i]);
    for (let k = 0; k < size; k++) {
      const value = map.delta[i * size + k], empty = own < 0 && value === 0;
      const fill = empty ? theme.empty : k === own && pixels < MOST_LETTERS ? theme.own : colourOf(theme, value / reach);
      surface.rect(x, top(k), w, top(k + 1) - top(k), fill);
    }
    if (own >= 0 && pixels >= MOST_LETTERS) {
      surface.circle(xOf(box, view, i + 0.5), box.heatTop + (own + 0.5) * box.row, Math.min(0.26 * pixels, 0.17 * box.row, 2.8), theme.dot);
    }
  }
}

function drawCoordinates(surface, box, map, view, theme, pixels, first, last) {
  const written = pixels >= 6.5;
  if (written) {
    for (let i = first; i < last; i++) {
      const x = xOf(box, view, i + 0.5), letter = map.letters[i];
      if (x < box.left + 2 || x > box.right - 2) continue;
      surface.text(x, box.heatBottom + 12, letter, { size: Math.min(11, pixels * 1.15), fill: map.colours[letter] || theme.soft, anchor: "middle", weight: "bold" });
    }
  }
  const under = box.heatBottom + (written ? 16 : 3);
  const { step } = steps(0, view.hi - view.lo, Math.max(2, (box.right - box.left) / 120));
  for (let i = first; i < last; i++) {
    const coordinate = map.coordinate(i), x = xOf(box, view, i + 0.5);
    if (coordinate % Math.max(1, Math.round(step)) !== 0 || x < box.left || x > box.right) continue;
    surface.line(Math.round(x) + 0.5, under, Math.round(x) + 0.5, under + 4, theme.line);
    surface.text(x, under + 15, whole(coordinate), { size: 10.5, fill: theme.soft, anchor: "middle" });
  }
  surface.text((box.left + box.right) / 2, box.height - 4, map.place, { size: 11, fill: theme.soft, anchor: "middle" });
}

function drawColourBar(surface, box, map, theme) {
  const x = box.right + 16, high = box.heatBottom - box.heatTop, parts = 60;
  for (let n = 0; n < parts; n++) {
    const y = box.heatTop + (n / parts) * high;
    surface.rect(x, y, 9, high / parts + 0.6, colourOf(theme, 1 - ((map.signed ? 2 : 1) * (n + 0.5)) / parts));
  }
  const reach = map.limits.reach || 1;
  const ends = map.signed ? [[0, box.heatTop + high / 2 + 3.7], [-reach, box.heatBottom]] : [[0, box.heatBottom]];
  for (const [value, y] of [[reach, box.heatTop + 8], ...ends]) {
    surface.text(x + 14, y, number(value, 3), { size: 10.5, fill: theme.soft });
  }
  surface.text(box.width - 8, (box.heatTop + box.heatBottom) / 2, map.metric, { size: 10.5, fill: theme.soft, anchor: "middle", turn: -90 });
}

function drawOverview(surface, box, map, view, theme) {
  const all = { lo: 0, hi: map.letters.length };
  let low = 0, high = 0;
  for (const value of map.heights) { low = Math.min(low, value); high = Math.max(high, value); }
  const yOf = (v) => box.height - 6 - ((v - low) / (high - low || 1)) * (box.height - 12);
  surface.rect(0, 0, box.width, box.height, theme.ground);
  surface.line(box.left, Math.round(yOf(0)) + 0.5, box.right, Math.round(yOf(0)) + 0.5, theme.line);
  columns(box, map, all, (x, from, to) => {
    let least = 0, most = 0;
    for (let i = from; i < to; i++) { least = Math.min(least, map.heights[i]); most = Math.max(most, map.heights[i]); }
    surface.rect(x, yOf(most), 1, Math.max(yOf(least) - yOf(most), 0), theme.strip);
  });
  const left = xOf(box, all, view.lo), right = xOf(box, all, view.hi);
  surface.rect(box.left, 0, left - box.left, box.height, theme.veil);
  surface.rect(right, 0, box.right - right, box.height, theme.veil);
  for (const [x, y, w, h] of [[left, 0, right - left, 1.5], [left, box.height - 1.5, right - left, 1.5], [left - 1, 0, 2, box.height], [right - 1, 0, 2, box.height]]) {
    surface.rect(x, y, w, h, theme.frame);
  }
}

function number(value, digits = 4) { // with a true minus sign
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const words = size === 0 ? "0" : size < 1e-4 || size >= 1e6 ? value.toExponential(digits - 1) : String(+value.toPrecision(digits));
  return words.replace("-", "−");
}

function rounded(value) { // three digits, so that a column of numbers lines up
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? value.toPrecision(3).replace("-", "−") : number(value, 3);
}

const signed = (value) => (facts.signed && value > 0 ? "+" : "") + number(value);
const whole = (value) => Math.round(value).toLocaleString("en-US").replace("-", "−");
