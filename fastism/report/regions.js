// What is known of the sequences, their maps, and the list of them.

const facts = JSON.parse(document.getElementById("facts").textContent);
const { sequences, alphabet } = facts;
const byName = new Intl.Collator("en", { numeric: true }).compare;
const COMPLEMENT = { A: "T", C: "G", G: "C", T: "A", U: "A" };

sequences.forEach((one, index) => {
  one.index = index;
  const [chrom, start, end, strand] = one.region || [];
  one.minus = strand === "-";
  one.span = one.region && `${chrom}:${whole(start)}-${whole(end)}`;
  one.place = one.region ? `${one.span}${strand === "." ? "" : ` (${strand === "-" ? "−" : strand})`}` : "";
  one.title = one.name || one.place || `sequence ${one.row}`;
  one.words = `${one.title} ${one.name} ${one.region ? `${chrom}:${start}-${end}(${strand})` : ""} ${one.span || ""}`.toLowerCase();
});

// 0-based coordinate of a mutated position: in the genome, or along the sequence.
function coordinateOf(one, i) {
  const at = facts.start + i;
  if (!one.region) return at;
  return one.minus ? one.region[2] - 1 - at : one.region[1] + at;
}

const pointAt = (one, i) => (one.region ? `${one.region[0]}:${whole(coordinateOf(one, i))}` : whole(coordinateOf(one, i)));

// A substitution as VCF writes it: counted from 1, on the plus strand; nothing without a genome or for another alphabet.
function variantOf(one, i, to) {
  const from = one.letters[i];
  if (!one.region || !/^ACGT?/.test(alphabet) || alphabet.length !== 4 || from === "N") return "";
  const [a, b] = one.minus ? [COMPLEMENT[from], COMPLEMENT[to]] : [from, to];
  return `${one.region[0]}:${whole(coordinateOf(one, i) + 1)} ${a}>${b}`;
}

function bytesOf(base64) {
  const text = atob(base64), found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

const opened = new Map(); // the last few maps, unpacked
function differencesOf(one, target) {
  const key = `${one.index}-${target}`;
  if (!opened.has(key)) {
    if (opened.size >= 24) opened.delete(opened.keys().next().value);
    const { buffer } = bytesOf(document.getElementById(`map-${key}`).textContent);
    const scale = one.scale[target];
    const unpacked = facts.precision === "float32" ? new Float32Array(buffer)
      : Float64Array.from(new Int16Array(buffer), (n) => (n === -32768 ? NaN : n * scale));
    opened.set(key, unpacked);
  }
  return opened.get(key);
}

// Without a sign a difference is how far the prediction moves: what moves it far is important, in whichever direction.
const up = facts.signed ? -1 : 1;

// What mean4 gives times this is what the rule gives.
const factorOf = (rule) => (rule === "mean3" ? alphabet.length / (alphabet.length - 1) : 1);

function heightsOf(one, target, rule) {
  const delta = differencesOf(one, target), size = alphabet.length, found = new Float64Array(one.letters.length);
  for (let i = 0; i < found.length; i++) {
    if (one.letters[i] === "N") continue;
    let sum = 0;
    for (let k = 0; k < size; k++) sum += delta[i * size + k];
    found[i] = Number.isFinite(sum) ? up * (sum / size) * factorOf(rule) : 0;
  }
  return found;
}

const effectOf = (one, target) => Math.max(one.high[target], -one.low[target]);

function found(query, sort, target) {
  const asked = query.trim().match(/^(\S+):([\d,]+)(?:\s*-\s*([\d,]+))?$/);
  const [from, to] = asked ? [asked[2], asked[3] || asked[2]].map((n) => Number(n.replaceAll(",", ""))) : [];
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = sequences.filter((one) => words.every((word) => one.words.includes(word)) ||
    (asked && one.region && one.region[0].toLowerCase() === asked[1].toLowerCase() && one.region[1] <= to && from < one.region[2]));
  const orders = {
    effect: (a, b) => effectOf(b, target) - effectOf(a, target),
    name: (a, b) => byName(a.title, b.title),
    place: (a, b) => (a.region && b.region ? byName(a.region[0], b.region[0]) || a.region[1] - b.region[1] : 0),
    row: () => 0,
  };
  return rows.sort((a, b) => orders[sort](a, b) || a.row - b.row);
}

const SVG = "http://www.w3.org/2000/svg";
function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

function sparkline(packed) {
  const values = new Int8Array(bytesOf(packed).buffer), wide = 72 / values.length;
  const low = Math.min(0, ...values), high = Math.max(0, ...values), y = (v) => ((high - v) / (high - low || 1)) * 18 + 1;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 72 20");
  picture.setAttribute("aria-hidden", "true");
  for (const [kind, sign] of [["up", 1], ["down", -1]]) {
    let d = "";
    values.forEach((v, n) => { if (v * sign > 0) d += `M${short(n * wide)} ${short(y(0))}V${short(y(v))}h${short(wide * 0.9)}V${short(y(0))}Z`; });
    if (!d) continue;
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d); path.setAttribute("class", kind);
    picture.append(path);
  }
  return picture;
}

function fillList(list, rows, target, rule) {
  list.replaceChildren(...rows.map((one, n) => {
    const effect = rounded(effectOf(one, target) * factorOf(rule));
    const about = one.name && one.place ? one.place : one.region ? "" : `${one.letters.length} positions`;
    return element("li", { class: "entry", role: "option", id: `entry-${one.index}`, "aria-selected": "false", "data-index": one.index,
      "aria-posinset": n + 1, "aria-setsize": rows.length, "aria-label": `${one.title}${about ? `, ${about}` : ""}, largest attribution ${effect}` },
      element("div", {}, element("b", { title: one.title }, one.title), element("small", {}, about)),
      element("span", {}, sparkline(one.small[target]), effect));
  }));
  if (!rows.length) list.append(element("li", { class: "none", role: "presentation" }, "No region fits the search."));
}

function notes() { // how to read the maps, and where their numbers come from
  const exact = facts.precision === "float32" ? "Differences are stored as 32-bit floating-point numbers, attributions are worked out from them on this page."
    : "Differences are rounded to 16-bit whole steps of 1 / 32767 of the largest difference of each map: off by at most 0.0015 % of that.";
  const ordinal = facts.attributes.metric ? ` under the metric ${facts.attributes.metric}` : "";
  const maps = facts.signed ? [
    `Heatmap: what each substitution does to the prediction, alternative − reference${ordinal}. Red raises it, blue lowers it, what has no colour does not change it; a dot marks the letter that is there. The scale is symmetric about 0.`,
    "Logo: the importance of the letter that is there. With S the sum of the differences of the others, −S / 4 is mean4 (as tangermeme and basenji), −S / 3 is mean3 (as CREsted and AlphaGenome), written for DNA. Letters that lower the prediction hang upside down; where they would be too narrow, coloured bars stand in.",
  ] : [
    `Heatmap: how much each substitution changes the prediction${ordinal}, which has no sign: it says how far the prediction moves, not where to. What has no colour does not change it; a dot marks the letter that is there. The scale begins at 0.`,
    "Logo: the importance of the letter that is there, how much its substitutions change the prediction. With S the sum of their differences, S / 4 is mean4, S / 3 is mean3, written for DNA; where letters would be too narrow, coloured bars stand in.",
  ];
  return [
    ...maps,
    "Coordinates count from 0, as BED does; variants count from 1 and are on the plus strand, as VCF does. A region on the minus strand is shown as the model reads it, so coordinates run down.",
    exact,
  ];
}
