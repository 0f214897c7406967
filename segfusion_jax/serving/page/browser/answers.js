// From what the ONNX file returns to what the page shows, as serving/web/answers.py has it: nothing here runs the model.

const FOR = [178, 24, 43]; // colours of evidence; distinct under every kind of colour blindness
const AGAINST = [33, 102, 172];
const OPACITY = 0.75; // of the strongest

// RGB of RGBA, opacity left out.
export function opaque(data) {
  const pixels = new Uint8Array(3 * data.length / 4);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    pixels[to++] = data[from];
    pixels[to++] = data[from + 1];
    pixels[to++] = data[from + 2];
  }
  return pixels;
}

// Whether a canvas gives back what was put on it, which browsers that resist fingerprinting do not.
export function unchanged(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const put = new ImageData(canvas.width, canvas.height);
  for (let place = 0; place < put.data.length; place++) put.data[place] = place % 4 === 3 ? 255 : (37 * place) % 256;
  context.putImageData(put, 0, 0);
  const read = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return put.data.every((value, place) => value === read[place]);
}

// Draws the mask: white is lesion.
export function lesion(isLesion, picture) {
  const colours = new Uint32Array(picture.data.buffer);
  isLesion.forEach((value, place) => { colours[place] = value ? 0xffffffff : 0xff000000; });
  return picture;
}

// Area and longest diameter in pixels, from edge to edge, of a mask that is not empty.
export function measured(isLesion, width, height) {
  const ends = [];
  let area = 0;
  for (let row = 0; row < height; row++) {
    let [first, last] = [-1, -1];
    for (let column = 0; column < width; column++) {
      if (!isLesion[row * width + column]) continue;
      area++;
      if (first < 0) first = column;
      last = column;
    }
    if (first >= 0) ends.push([first, row], [last, row]);
  }
  const corners = hull(ends);
  let diameter = 0;
  for (const [x, y] of corners) {
    for (const [u, v] of corners) diameter = Math.max(diameter, Math.hypot(Math.abs(x - u) + 1, Math.abs(y - v) + 1));
  }
  return { area, diameter };
}

// The convex hull of points (Andrew's monotone chain, 1979).
function hull(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const turns = ([ax, ay], [bx, by], [cx, cy]) => (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
  const half = (ordered) => {
    const kept = [];
    for (const point of ordered) {
      while (kept.length > 1 && turns(kept.at(-2), kept.at(-1), point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept;
  };
  return [...half(sorted), ...half(sorted.toReversed())];
}

// Draws evidence of a coarse grid that lies over a frame of the image, in colours: the strongest is the least transparent.
export function evidence({ data, dims: [, rows, columns] }, [top, left, bottom, right], image, picture) {
  const { width, height } = picture;
  const across = places(width, image.width, left, right, columns);
  const down = places(height, image.height, top, bottom, rows);
  const values = new Float32Array(width * height);
  let strongest = 0;
  down.forEach((row, y) => row && across.forEach((column, x) => {
    if (!column) return;
    const at = (r, c) => data[r * columns + c];
    const mixed = (r) => at(r, column.first) * (1 - column.share) + at(r, column.second) * column.share;
    const value = mixed(row.first) * (1 - row.share) + mixed(row.second) * row.share;
    values[y * width + x] = value;
    strongest = Math.max(strongest, Math.abs(value));
  }));
  values.forEach((value, place) => {
    const opacity = Math.round(255 * OPACITY * Math.abs(value) / (strongest || 1));
    const [red, green, blue] = value > 0 ? FOR : AGAINST;
    picture.data.set([red, green, blue, opacity], 4 * place);
  });
  return picture;
}

// Between which cells of a grid each pixel of a picture lies, for linear interpolation; null outside of the frame.
function places(side, original, start, stop, cells) {
  return Array.from({ length: side }, (_, pixel) => {
    const there = (pixel + 0.5) * original / side;
    if (there < start || there > stop) return null;
    const place = Math.min(Math.max((there - start) / (stop - start) * cells - 0.5, 0), cells - 1);
    const first = Math.floor(place);
    return { first, second: Math.min(first + 1, cells - 1), share: place - first };
  });
}

// How far the outputs of two devices are apart: the largest difference of a probability, of novelty, of the mask's area.
export function disagreement(expected, found, threshold) {
  const area = ({ data }) => data.reduce((sum, value) => sum + (value >= threshold), 0) / data.length;
  const apart = [...expected.probabilities.data].map((value, place) => Math.abs(value - found.probabilities.data[place]));
  const novelty = Math.abs(expected.novelty.data[0] - found.novelty.data[0]) / Math.max(1, expected.novelty.data[0]);
  const all = [...apart, novelty, Math.abs(area(expected.mask) - area(found.mask))];
  return all.every(Number.isFinite) ? Math.max(...all) : Infinity;
}
