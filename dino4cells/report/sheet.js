// The contact sheet: grey pictures, one for each channel, are coloured and added up as the reader likes.

(() => {
  const data = dataBlock("sheet-data");
  if (!data) return;
  const tile = data.tile, channels = data.channels, GAP = Math.max(1, Math.round(tile / 60));  // pixels between two cells
  const boxes = channels.map((_, number) => byId(`channel-${number}`));
  const contrast = byId("sheet-contrast"), black = byId("sheet-black");
  const rows = data.rows.map((row, number) => ({ ...row, canvas: byId(`sheet-${number}`), planes: null }));

  // A picture holds the cells from left to right and the channels from top to bottom.
  async function read(row) {
    const image = await loaded(row.picture);
    const scratch = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
    scratch.drawImage(image, 0, 0);
    const pixels = scratch.getImageData(0, 0, image.width, image.height).data;
    const each = image.width * tile;
    row.planes = channels.map((_, channel) => {
      const plane = new Uint8Array(each);
      for (let place = 0; place < each; place++) plane[place] = pixels[4 * (channel * each + place)];
      return plane;
    });
    row.canvas.width = image.width + GAP * (image.width / tile - 1);
    row.canvas.height = tile;
    draw(row);
  }

  function draw(row) {
    if (!row.planes) return;
    const context = row.canvas.getContext("2d");
    const width = row.planes[0].length / tile;
    const picture = context.createImageData(width, tile), sums = new Float32Array(3 * width * tile);
    const on = boxes.map((box) => !box || box.checked);
    const gain = Number(contrast.value), floor = (255 * Number(black.value)) / 100;
    const alone = on.filter(Boolean).length === 1;
    row.planes.forEach((plane, channel) => {
      if (!on[channel]) return;
      // A channel alone is shown in grey, which shows most detail.
      const colour = alone ? [1, 1, 1] : channels[channel].colour;
      for (let place = 0; place < plane.length; place++) {
        const value = Math.min(255, Math.max(0, (plane[place] - floor) * gain));
        for (let part = 0; part < 3; part++) sums[3 * place + part] += value * colour[part];
      }
    });
    for (let place = 0; place < sums.length / 3; place++) {
      for (let part = 0; part < 3; part++) picture.data[4 * place + part] = sums[3 * place + part];
      picture.data[4 * place + 3] = 255;
    }
    for (let cell = 0; cell < width / tile; cell++) context.putImageData(picture, GAP * cell, 0, cell * tile, 0, tile, tile);
  }

  function redraw() {
    byId("contrast-value").textContent = `×${Number(contrast.value).toFixed(1)}`;
    byId("black-value").textContent = `${black.value} %`;
    rows.forEach(draw);
  }

  for (const control of [...boxes.filter(Boolean), contrast, black]) control.addEventListener("input", redraw);
  byId("sheet-reset").addEventListener("click", () => {
    for (const box of boxes) if (box) box.checked = box.defaultChecked;
    contrast.value = 1;
    black.value = 0;
    redraw();
  });
  Promise.all(rows.map(read)).then(() => { document.documentElement.dataset.sheet = "drawn"; });
})();
