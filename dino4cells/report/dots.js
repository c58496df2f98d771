// The dots of the map, painted by the processor: 100,000 in a few hundredths of a second, with or without a graphics card.

const SHAPES = {
  circle: "M6 1a5 5 0 1 0 .01 0z", triangle: "M6 1l5.5 10H.5z", square: "M1.5 1.5h9v9h-9z", diamond: "M6 0l5 6-5 6-5-6z",
  star: "M6 0l1.6 4.2 4.4.2-3.4 2.8 1.2 4.4L6 9.1l-3.8 2.5 1.2-4.4L0 4.4l4.4-.2z",
};  // in a square of 12, where a circle has a diameter of 10

const PHASES = 4;  // places within a pixel, along each axis, at which a dot may lie

// How much of each pixel a shape covers, 0 to 1: a square of `side` pixels for each of the 16 places within a pixel.
function stampsOf(shape, diameter) {
  const scale = diameter / 10, side = Math.ceil(12 * scale) + 2;
  const canvas = new OffscreenCanvas(side, side), context = canvas.getContext("2d", { willReadFrequently: true });
  const path = new Path2D(SHAPES[shape]), covers = [];
  for (let place = 0; place < PHASES * PHASES; place++) {
    const across = (place % PHASES) / PHASES, down = Math.floor(place / PHASES) / PHASES;
    context.setTransform(scale, 0, 0, scale, 1 + across, 1 + down);
    context.clearRect(-12, -12, 36, 36);
    context.fill(path);
    const pixels = context.getImageData(0, 0, side, side).data;
    covers.push(Float32Array.from({ length: side * side }, (_, pixel) => pixels[4 * pixel + 3] / 255));
  }
  return { side, middle: 1 + 6 * scale, covers };
}

// A painter of dots on a canvas, the later over the earlier, without a background.
function dotsOn(canvas) {
  const context = canvas.getContext("2d"), made = new Map();
  let light = new Float32Array(0);

  function stamps(shape, diameter) {
    const key = `${shape} ${diameter}`;
    if (!made.has(key)) made.set(key, stampsOf(shape, diameter));
    return made.get(key);
  }

  // x, y: pixels of the canvas; kinds: of each dot, which of looks ({colour: "#rrggbb", marker}); layers: [{holds(dot), opacity}], the lowest first.
  return function paint({ x, y, kinds, looks, layers, diameter }) {
    const { width, height } = canvas;
    if (light.length !== 4 * width * height) light = new Float32Array(4 * width * height);
    else light.fill(0);  // red, green and blue times the opacity, and the opacity
    const colours = looks.map(({ colour }) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16)));
    const shapes = looks.map(({ marker }) => stamps(marker, diameter));
    for (const { holds, opacity } of layers) {
      for (let dot = 0; dot < kinds.length; dot++) {
        if (!holds(dot)) continue;
        const { side, middle, covers } = shapes[kinds[dot]], [red, green, blue] = colours[kinds[dot]];
        const across = Math.round((x[dot] - middle) * PHASES), down = Math.round((y[dot] - middle) * PHASES);
        const left = Math.floor(across / PHASES), top = Math.floor(down / PHASES);
        if (!(left >= -side && top >= -side && left < width && top < height)) continue;
        const cover = covers[(down - top * PHASES) * PHASES + across - left * PHASES];
        const right = Math.min(side, width - left), bottom = Math.min(side, height - top);
        for (let row = Math.max(0, -top); row < bottom; row++) {
          for (let column = Math.max(0, -left); column < right; column++) {
            const over = cover[row * side + column] * opacity;
            if (over === 0) continue;
            const pixel = 4 * ((top + row) * width + left + column), under = 1 - over;
            light[pixel] = light[pixel] * under + red * over;
            light[pixel + 1] = light[pixel + 1] * under + green * over;
            light[pixel + 2] = light[pixel + 2] * under + blue * over;
            light[pixel + 3] = light[pixel + 3] * under + over;
          }
        }
      }
    }
    const picture = context.createImageData(width, height), seen = picture.data;
    for (let pixel = 0; pixel < seen.length; pixel += 4) {
      const opacity = light[pixel + 3];
      if (opacity === 0) continue;
      for (let part = 0; part < 3; part++) seen[pixel + part] = light[pixel + part] / opacity;
      seen[pixel + 3] = 255 * opacity;
    }
    context.putImageData(picture, 0, 0);
  };
}

// The dots of the map below Bokeh's canvas, which has the rings: they follow its ranges, its size and its selection.
function mapDots({ figure, view, source, rings, x, y }) {
  const plot = view.model, fine = () => window.devicePixelRatio;
  const size = Math.min(9, Math.max(3.5, 260 / Math.sqrt(x.length)));
  plot.document.get_model_by_name("dots").glyph.size = { value: size };  // within which Bokeh finds a dot
  source.data = { x, y };

  const canvas = element("canvas", { id: "map-dots", "aria-hidden": "true" }), paint = dotsOn(canvas);
  figure.prepend(canvas);
  let coloured = null, waiting = false;

  const left = (value) => ((value - plot.x_range.start) / (plot.x_range.end - plot.x_range.start)) * canvas.width;
  const top = (value) => ((plot.y_range.end - value) / (plot.y_range.end - plot.y_range.start)) * canvas.height;

  // Before the browser shows its next picture, however often it is asked for until then.
  function repaint() {
    if (waiting) return;
    waiting = true;
    document.documentElement.dataset.map = "waiting";
    requestAnimationFrame(() => { waiting = false; paintAll(); });
  }

  function paintAll() {
    const place = view.frame.bbox, shown = place.width > 0 && place.height > 0;
    document.documentElement.dataset.map = shown ? "drawn" : "hidden";
    if (!shown) return;  // Bokeh tells when it has a size again
    for (const side of ["left", "top", "width", "height"]) canvas.style[side] = `${place[side]}px`;
    Object.assign(canvas, { width: Math.round(place.width * fine()), height: Math.round(place.height * fine()) });
    const selected = source.selected.indices, chosen = new Uint8Array(x.length);
    for (const cell of selected) chosen[cell] = 1;
    const layers = [{ holds: (cell) => !chosen[cell], opacity: 0.12 }, { holds: (cell) => chosen[cell], opacity: 1 }];
    paint({
      kinds: coloured.kinds, looks: coloured.looks(), x: x.map(left), y: y.map(top), diameter: size * fine(),
      layers: selected.length ? layers : [{ holds: () => true, opacity: 0.8 }],
    });
    if (printing) drawForPaper();
  }

  // On paper the map has another width, which Bokeh does not follow: the rings are drawn among the dots, and the style hides Bokeh's.
  function drawForPaper() {
    const copy = new OffscreenCanvas(canvas.width, canvas.height), context = canvas.getContext("2d");
    copy.getContext("2d").drawImage(canvas, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(copy, 0, 0);  // a browser prints what is drawn now, and no pixels that were put there before
    for (const { at, diameter, width } of rings) {
      context.lineWidth = width * fine();
      for (let ring = 0; ring < at.data.x.length; ring++) {
        context.beginPath();
        context.arc(left(at.data.x[ring]), top(at.data.y[ring]), (diameter / 2) * fine(), 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  for (const range of [plot.x_range, plot.y_range]) range.change.connect(repaint);
  for (const length of [plot.properties.inner_width, plot.properties.inner_height]) length.change.connect(repaint);
  window.addEventListener("resize", repaint);  // which is also how a browser tells of another zoom of the page
  window.addEventListener("beforeprint", paintAll);  // what waits for the next picture comes too late
  window.addEventListener("afterprint", repaint);
  darkScreen.addEventListener("change", repaint);

  return { paintIn: (looks) => { coloured = looks; repaint(); }, repaint };
}
