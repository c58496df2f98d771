// The map of the features. Bokeh has the axes and the tools: what is under the pointer, inside a lasso, moved, zoomed. `dots.js` paints the dots.
// This shows the cell under the pointer, its neighbours, and the selected cells.

(() => {
  const data = dataBlock("map-data");
  if (!data) return;

  const { count, x, y, columns, label, title, picture, facts } = cellsOf(data);
  const { style, scale, looksOf, swatch } = coloursOf(data);

  Bokeh.embed.embed_item(dataBlock("map-drawing"), "map-figure").then((views) => {
    const [view] = views.roots, drawn = view.model.document;
    const [plot, source, near, here] = ["plot", "cells", "near", "here"].map((name) => drawn.get_model_by_name(name));
    const tool = (name) => drawn.get_model_by_name(name);
    const figure = byId("map-figure"), status = byId("map-card"), legend = byId("map-legend");

    const dots = mapDots({ figure, view, source, rings: [{ at: near, diameter: 13, width: 1.6 }, { at: here, diameter: 17, width: 2.4 }], x, y });

    // ---- Colour by a column

    const colouredBy = () => columns[Number(byId("map-colour").value)];

    function colourBy(column) {
      const chosen = style(column);
      dots.paintIn(looksOf(column, chosen));
      drawLegend(column, chosen);
      describeSelection();
    }

    function drawLegend(column, chosen) {
      legend.replaceChildren(element("h3", {}, column.name));
      if (chosen.scale) {
        const bar = element("div", { class: "scale" });
        for (const dark of [false, true]) {
          bar.style.setProperty(dark ? "--on-dark" : "--on-light", `linear-gradient(to right, ${scale(dark).join(", ")})`);
        }
        const ends = [chosen.low, chosen.high].map((value) => element("span", {}, numeral(Number(value.toPrecision(4)))));
        legend.append(bar, element("div", { class: "ends" }, ...ends));
        legend.append(element("p", { class: "quiet" }, "From the 1st to the 99th percentile; pale: no number."));
        return;
      }
      const list = element("ul");
      column.values.forEach((value, code) => {
        if (chosen.rank[code] < 0 && code < column.known) return;
        const button = element("button", { type: "button", "aria-pressed": "false" });
        button.append(swatch(chosen, chosen.rank[code]), element("span", { dir: "auto" }, value), element("small", {}, counted(column.sizes[code])));
        button.addEventListener("click", () => {
          const on = button.getAttribute("aria-pressed") === "true";
          select(on ? [] : placesWhere((cell) => column.codes[cell] === code));
          button.setAttribute("aria-pressed", String(!on));
        });
        list.append(element("li", {}, button));
      });
      const others = column.known - chosen.kept;
      if (others > 0) list.append(element("li", { class: "others" }, swatch(chosen, -1), element("span", {}, `${counted(others)} rarer values`)));
      legend.append(list);
    }

    function placesWhere(holds) {
      const found = [];
      for (let cell = 0; cell < count; cell++) if (holds(cell)) found.push(cell);
      return found;
    }

    byId("map-colour").addEventListener("change", () => colourBy(colouredBy()));

    // ---- The cell under the pointer or the keyboard's

    let shown = -1;

    function show(cell, alsoHere = 0) {
      if (cell === shown) return;
      shown = cell;
      here.data = { x: [x[cell]], y: [y[cell]] };
      status.replaceChildren(picture(cell, 128), facts(cell));
      if (alsoHere > 0) status.append(element("p", { class: "quiet" }, `${cells(alsoHere)} more at this point.`));
    }

    // The cell drawn last lies on top.
    const topmost = (indices) => indices[indices.length - 1];

    source.inspect.connect(() => {
      const under = source.inspected.indices;
      if (under.length) show(topmost(under), under.length - 1);
    });

    // ---- Selection

    let pressed = null, moved = false;
    figure.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; moved = false; }, true);
    figure.addEventListener("pointermove", (event) => {
      if (pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 5) moved = true;
    }, true);

    let own = false, before = [];

    function select(indices) {
      own = true;
      source.selected.indices = indices;
      own = false;
      selectionChanged();
    }

    source.selected.properties.indices.change.connect(() => {
      if (own) return;
      const indices = source.selected.indices;
      if (pressed && !moved && indices.length) {
        const cell = indices.includes(shown) ? shown : topmost(indices);
        show(cell);
        showNeighbours(cell);
        return select(before);  // a click is no selection
      }
      for (const button of legend.querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
      selectionChanged();
    });

    const ROWS = 100;

    function selectionChanged() {
      const chosen = source.selected.indices;
      before = chosen;
      dots.repaint();
      byId("map-selection").hidden = chosen.length === 0;
      byId("selection-copy").hidden = true;
      byId("selection-count").textContent = `${cells(chosen.length)} of ${counted(count)}`;
      describeSelection();
      const table = byId("selection-table");
      table.replaceChildren();
      if (!chosen.length) return;
      const head = element("tr", {}, element("th", { scope: "col" }, "picture"));
      columns.forEach((column) => head.append(element("th", { scope: "col" }, column.name)));
      const body = element("tbody");
      for (const cell of chosen.slice(0, ROWS)) {
        const button = element("button", { type: "button", "aria-label": `Show ${visible(title(cell))} on the map` }, picture(cell, 40));
        button.addEventListener("click", () => { show(cell); showNeighbours(cell); figure.scrollIntoView({ block: "nearest" }); });
        const row = element("tr", {}, element("td", {}, button));
        columns.forEach((column) => row.append(element("td", { dir: "auto" }, column.shown(cell))));
        body.append(row);
      }
      table.append(element("thead", {}, head), body);
      const more = chosen.length - ROWS;
      byId("selection-more").textContent = more > 0 ? `And ${cells(more)} more; the CSV has all.` : "";
    }

    function describeSelection() {
      const column = colouredBy(), text = byId("selection-values");
      text.textContent = "";
      if (column.kind !== "category" || !source.selected.indices.length) return;
      const sums = new Map();
      for (const cell of source.selected.indices) sums.set(column.codes[cell], (sums.get(column.codes[cell]) || 0) + 1);
      const parts = [...sums].sort((a, b) => b[1] - a[1]);
      text.textContent = visible(parts.slice(0, 6).map(([code, number]) => `${column.values[code]} ${counted(number)}`).join(" · "));
      if (parts.length > 6) text.textContent += ` · ${counted(parts.length - 6)} more values`;
    }

    // A spreadsheet takes text that begins with one of these for a formula; behind an apostrophe it is text.
    function csvCell(text, isNumber) {
      const inert = !isNumber && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n\r]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
    }

    function csv() {
      const lines = [columns.map((column) => csvCell(column.name, false)).join(",")];
      for (const cell of source.selected.indices) {
        lines.push(columns.map((column) => csvCell(column.text(cell), column.kind === "number")).join(","));
      }
      return `${lines.join("\r\n")}\r\n`;
    }

    byId("selection-save").addEventListener("click", () => {
      const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
      const link = element("a", { href: address, download: "selected-cells.csv" });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
    });
    byId("selection-text").addEventListener("click", () => {
      const copy = byId("selection-copy");
      copy.hidden = false;
      copy.querySelector("textarea").value = csv();
      copy.querySelector("textarea").select();
    });
    byId("selection-end").addEventListener("click", () => endSelection());

    function endSelection() {
      for (const button of legend.querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
      near.data = { x: [], y: [] };
      select([]);
      figure.focus();
    }

    const sought = byId("map-find");

    function find() {
      const words = sought.value.trim().toLowerCase();
      select(words ? placesWhere((cell) => columns.some((column) => column.text(cell).toLowerCase().includes(words))) : []);
      if (words && !source.selected.indices.length) status.replaceChildren(element("p", {}, `No cell has “${words}”.`));
      else if (words) show(source.selected.indices[0]);
    }

    sought.addEventListener("change", find);
    sought.addEventListener("input", () => { if (!sought.value) find(); });  // emptied by its button

    // ---- Nearest neighbours

    const found = data.neighbours;
    const codes = found ? unpacked(found.codes) : null, places = found ? unpacked(found.places) : null;
    const distances = found ? unpacked(found.distances) : null;

    function showNeighbours(cell) {
      if (!found) return;
      const list = byId("neighbours-list");
      list.replaceChildren(card(cell, "this cell"));
      const ringed = [];
      for (let rank = 0; rank < found.each; rank++) {
        const at = cell * found.each + rank, other = places[codes[at]];
        ringed.push(other);
        list.append(card(other, (distances[at] / 32767).toFixed(3), label.text(other) !== label.text(cell)));
      }
      near.data = { x: ringed.map((other) => x[other]), y: ringed.map((other) => y[other]) };
      const among = found.among < count ? `the ${cells(found.among)} ${data.portraits ? "with a picture" : "of a sample"}` : `all ${cells(count)}`;
      byId("neighbours-note").textContent = visible(
        `Of ${title(cell)}, among ${among}, by the cosine of their features: 0 is the same direction, 1 no resemblance. ` +
        `Framed: another ${label.name}. Rings mark them on the map.`,
      );
      byId("map-neighbours").hidden = false;
    }

    function card(cell, words, other = false) {
      const button = element("button", { type: "button", class: other ? "other" : "" }, picture(cell, 70));
      button.append(element("span", { dir: "auto" }, label.text(cell)), element("small", {}, words));
      button.addEventListener("click", () => { show(cell); showNeighbours(cell); });
      return element("li", {}, button);
    }

    // ---- Tools

    const tools = document.querySelectorAll("[data-tool]");

    function use(name) {
      for (const other of ["lasso", "box", "move"]) tool(other).active = other === name;
      for (const button of tools) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    }

    for (const button of tools) button.addEventListener("click", () => use(button.dataset.tool));

    const whole = { x: ends(x), y: ends(y) };

    function ends(values) {
      let low = Infinity, high = -Infinity;
      for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
      const margin = 0.04 * (high - low) || 1;
      return [low - margin, high + margin];
    }

    function zoom(factor) {
      for (const range of [plot.x_range, plot.y_range]) {
        const middle = (range.start + range.end) / 2, half = ((range.end - range.start) / 2) * factor;
        range.setv({ start: middle - half, end: middle + half });
      }
    }

    function reset() {
      plot.x_range.setv({ start: whole.x[0], end: whole.x[1] });
      plot.y_range.setv({ start: whole.y[0], end: whole.y[1] });
    }

    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => ({ in: () => zoom(0.7), out: () => zoom(1 / 0.7), reset })[button.dataset.zoom]());
    }

    // ---- Keyboard: from cell to cell in the direction of the arrow

    const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

    function step(direction) {
      const next = nextCell({ x, y, from: shown, direction, across: plot.x_range, up: plot.y_range });
      if (next >= 0) show(next);
    }

    figure.addEventListener("keydown", (event) => {
      if (DIRECTIONS[event.key]) step(DIRECTIONS[event.key]);
      else if (event.key === "Enter" && shown >= 0) showNeighbours(shown);
      else if (event.key === "Escape") endSelection();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }, true);

    // ---- Light and dark, and the start

    function ink() {
      const colour = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
      for (const name of ["near-rings", "here-rings"]) drawn.get_model_by_name(name).glyph.line_color = { value: colour };
    }

    // Beside a narrow map there is no room for the cell's card: both are to be seen, one above the other.
    const narrow = window.matchMedia("(max-width: 760px)"), tall = plot.height;
    const fit = () => { plot.height = narrow.matches ? 430 : tall; };
    narrow.addEventListener("change", fit);
    fit();

    darkScreen.addEventListener("change", ink);
    ink();
    reset();
    colourBy(colouredBy());
    use(window.matchMedia("(pointer: coarse)").matches ? "" : "lasso");
  });
})();
