// The cells of a map: what the table says about each, its picture, the colours and shapes of a column's values, and which comes next.

function cellsOf(data) {
  const count = data.count;
  const x = unpacked(data.x), y = unpacked(data.y);
  const columns = data.columns.map((column) => {
    if (column.kind === "number") {
      const numbers = unpacked(column.numbers);
      const said = (how) => (cell) => (Number.isFinite(numbers[cell]) ? how(numbers[cell]) : "");
      return { ...column, numbers, text: said(String), shown: said(numeral) };
    }
    if (column.kind === "text") {
      const text = (cell) => column.prefix + column.texts[cell];
      return { ...column, text, shown: text };
    }
    const codes = unpacked(column.codes);
    const sizes = new Array(column.values.length).fill(0);
    for (const code of codes) sizes[code] += 1;
    const text = (cell) => column.values[codes[cell]];
    return { ...column, codes, sizes, text, shown: text };
  });
  const label = columns[data.first];
  const titleColumns = ["file", "Image_Name", "ID"].map((name) => columns.find((column) => column.name === name)).filter(Boolean);
  const title = (cell) => (titleColumns.length ? titleColumns[0].text(cell) : `cell ${counted(cell + 1)}`);

  const portraits = data.portraits;
  const pictureOf = new Int32Array(count).fill(-1);
  if (portraits) unpacked(portraits.places).forEach((place, number) => { pictureOf[place] = number; });
  const sheets = new Map();

  function sheet(number) {
    if (!sheets.has(number)) sheets.set(number, loaded(portraits.sheets[number]));
    return sheets.get(number);
  }

  // A canvas with the picture of a cell, or a box that says that it has none.
  function picture(cell, size) {
    const number = pictureOf[cell];
    if (number < 0) return element("span", { class: "no-picture" }, portraits ? "no picture of this cell in the page" : "no pictures");
    const side = portraits.side, perSheet = portraits.columns ** 2, place = number % perSheet;
    const canvas = element("canvas", {
      class: "portrait", width: side, height: side, role: "img", "aria-label": visible(`${title(cell)}, ${label.text(cell)}`),
    });
    canvas.style.width = canvas.style.height = `${size}px`;
    sheet(Math.floor(number / perSheet)).then((image) => {
      const left = (place % portraits.columns) * side, top = Math.floor(place / portraits.columns) * side;
      canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, side, side);
    });
    return canvas;
  }

  function facts(cell) {
    const list = element("dl");
    for (const column of [label, ...columns.filter((other) => other !== label)]) {
      const text = column.shown(cell);
      if (text !== "") list.append(element("dt", {}, column.name), element("dd", { dir: "auto" }, text));
    }
    return list;
  }

  return { count, x, y, columns, label, title, picture, facts };
}

// At most 35 values have a colour and a shape of their own; rarer ones, and cells without a value, are pale. Numbers lie along a scale, of
// which the end that the page's background would swallow is left out.
function coloursOf(data) {
  const MOST = data.colours.length * data.markers.length, CUT = 0.2;

  function scale(dark) {
    const cut = Math.round(CUT * data.scale.length);
    return dark ? data.scale.slice(cut) : data.scale.slice(0, data.scale.length - cut);
  }

  function style(column) {
    if (column.kind === "number") {
      const known = column.numbers.filter(Number.isFinite).sort();
      const low = known[Math.floor(0.01 * (known.length - 1))], high = known[Math.ceil(0.99 * (known.length - 1))];
      return { low, high: high > low ? high : low + 1, scale: true };
    }
    const order = column.values.slice(0, column.known).map((_, code) => code);
    const common = order.length <= MOST ? order : [...order].sort((a, b) => column.sizes[b] - column.sizes[a] || a - b).slice(0, MOST - 1);
    const rank = new Int32Array(column.values.length).fill(-1);
    [...common].sort((a, b) => a - b).forEach((code, place) => { rank[code] = place; });
    return { rank, kept: common.length, ordered: column.ordered };
  }

  // Of each cell the number of its look, and what gives the looks, which differ on a dark page; the last of them is the pale one.
  function looksOf(column, chosen) {
    if (chosen.scale) {
      const steps = scale(false).length, range = chosen.high - chosen.low;
      const kinds = Uint16Array.from(column.numbers, (value) =>
        Number.isFinite(value) ? Math.min(steps - 1, Math.max(0, Math.floor(((value - chosen.low) / range) * steps))) : steps);
      return { kinds, looks: () => [...scale(onDark()).map((colour) => ({ colour, marker: "circle" })), pale(onDark())] };
    }
    const kinds = Uint16Array.from(column.codes, (code) => (chosen.rank[code] < 0 ? chosen.kept : chosen.rank[code]));
    return { kinds, looks: () => [...Array.from({ length: chosen.kept }, (_, rank) => look(chosen, rank, onDark())), pale(onDark())] };
  }

  const pale = (dark) => ({ colour: dark ? data.pale.dark : data.pale.light, marker: "circle" });

  // Steps of a series lie along the scale; other values differ in colour, and those behind the colours in shape.
  function look(chosen, rank, dark) {
    if (rank < 0) return pale(dark);
    if (chosen.ordered) {
      const colours = scale(dark);
      return { colour: colours[Math.round((rank / Math.max(1, chosen.kept - 1)) * (colours.length - 1))], marker: "circle" };
    }
    const count = data.colours.length;
    return { colour: data.colours[rank % count], marker: data.markers[Math.floor(rank / count) % data.markers.length] };
  }

  function swatch(chosen, rank) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 12 12");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", SHAPES[look(chosen, rank, false).marker]);
    svg.style.setProperty("--on-light", look(chosen, rank, false).colour);
    svg.style.setProperty("--on-dark", look(chosen, rank, true).colour);
    svg.append(path);
    return svg;
  }

  return { style, scale, looksOf, swatch };
}

// The cell that comes after another one in a direction ([1, 0] is to the right), or -1; from none (-1) the one in the middle of what is seen.
function nextCell({ x, y, from, direction, across, up }) {
  const width = across.end - across.start, height = up.end - up.start;
  const [left, below] = from < 0 ? [(across.start + across.end) / 2, (up.start + up.end) / 2] : [x[from], y[from]];
  let best = -1, least = Infinity;
  for (let cell = 0; cell < x.length; cell++) {
    const right = (x[cell] - left) / width, above = (y[cell] - below) / height;
    const along = right * direction[0] + above * direction[1], aside = Math.abs(right * direction[1]) + Math.abs(above * direction[0]);
    if (cell === from || (from >= 0 && (along <= 1e-6 || aside > along))) continue;
    const way = from < 0 ? Math.hypot(right, above) : along + 2 * aside;
    if (way < least) { least = way; best = cell; }
  }
  return best;
}
