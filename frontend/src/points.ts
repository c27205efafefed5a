// Points of the map in pixels: drawing, picking, and what lies within an outline.
import type { Points } from "./api";

export type View = { x: number; y: number; scale: number }; // what is in the middle, and pixels a unit
export type Look = { colour: "cluster" | "density" | "search"; found: Set<number> | null; chosen: Set<number>; hovered: number; dark: boolean };

const NEAR = 12; // pixels within which a point is picked

// The view in which all points are seen, with a margin.
export function fit({ x, y }: Points, wide: number, high: number): View {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let n = 0; n < x.length; n++) {
    if (x[n]! < left) left = x[n]!;
    if (x[n]! > right) right = x[n]!;
    if (y[n]! < top) top = y[n]!;
    if (y[n]! > bottom) bottom = y[n]!;
  }
  if (left > right) return { x: 0, y: 0, scale: 1 };
  const scale = 0.92 * Math.min(wide / Math.max(1e-6, right - left), high / Math.max(1e-6, bottom - top));
  return { x: (left + right) / 2, y: (top + bottom) / 2, scale };
}

const hue = (degrees: number, light: number, chroma = 0.55): number => {
  const part = (shift: number) => {
    const k = (shift + degrees / 30) % 12;
    return Math.round(255 * (light - chroma * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return (255 << 24) | (part(4) << 16) | (part(8) << 8) | part(0);
};

export function draw(canvas: HTMLCanvasElement, points: Points, view: View, ratio: number, look: Look): void {
  const context = canvas.getContext("2d")!;
  const { width, height } = canvas;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const n = points.x.length;
  const size = Math.max(1, Math.round(ratio * Math.min(5, Math.max(1, 60 / Math.sqrt(n) + Math.log2(Math.max(1, view.scale / 20))))));
  const plain = look.dark ? hue(40, 0.34, 0.1) : hue(40, 0.78, 0.12);
  const bright = look.dark ? hue(22, 0.62, 0.85) : hue(20, 0.42, 0.8);
  const clusters = Array.from({ length: 24 }, (_, place) => hue((place * 137.5) % 360, look.dark ? 0.6 : 0.48));
  const decades = Array.from({ length: 24 }, (_, place) => hue(250 - place * 10, look.dark ? 0.35 + place * 0.014 : 0.68 - place * 0.014, 0.6));
  const put = (place: number, colour: number, wide: number) => {
    const left = Math.round(((points.x[place]! - view.x) * view.scale) * ratio + width / 2 - wide / 2);
    const top = Math.round(((points.y[place]! - view.y) * view.scale) * ratio + height / 2 - wide / 2);
    if (!(left > -wide && top > -wide && left < width && top < height)) return; // also what has no place
    const [from, to] = [Math.max(0, left), Math.min(width, left + wide)];
    for (let row = Math.max(0, top); row < Math.min(height, top + wide); row++) pixels.fill(colour, row * width + from, row * width + to);
  };
  const marked = look.colour === "search" ? look.found : null;
  for (let place = 0; place < n; place++) {
    let colour = plain;
    if (look.colour === "cluster") { const own = points.cluster[place]!; if (own >= 0) colour = clusters[own % clusters.length]!; }
    else if (look.colour === "density") colour = decades[Math.max(0, Math.min(23, Math.floor(23 + 4 * Math.log10(points.density[place]! + 1e-9))))]!;
    put(place, colour, size);
  }
  for (const place of marked ?? []) put(place, bright, size + ratio);
  for (const place of look.chosen) put(place, bright, size + 2 * ratio);
  if (look.hovered >= 0) put(look.hovered, bright, size + 4 * ratio);
  context.putImageData(image, 0, 0);
}

export function nearestPoint(points: Points, view: View, x: number, y: number, wide: number, high: number): number {
  const [left, top, reach] = [(x - wide / 2) / view.scale + view.x, (y - high / 2) / view.scale + view.y, NEAR / view.scale];
  let [best, least] = [-1, reach * reach];
  for (let n = 0; n < points.x.length; n++) {
    const [dx, dy] = [points.x[n]! - left, points.y[n]! - top];
    const far = dx * dx + dy * dy;
    if (far < least) [best, least] = [n, far];
  }
  return best;
}

// Which points lie within an outline of pixels, by the number of its edges that a ray from the point crosses.
export function inside(points: Points, view: View, outline: [number, number][], wide: number, high: number): number[] {
  const corners = outline.map(([x, y]) => [(x - wide / 2) / view.scale + view.x, (y - high / 2) / view.scale + view.y] as const);
  const found: number[] = [];
  for (let n = 0; n < points.x.length; n++) {
    const [x, y] = [points.x[n]!, points.y[n]!];
    let within = false;
    for (let at = 0, before = corners.length - 1; at < corners.length; before = at++) {
      const [x1, y1] = corners[at]!;
      const [x2, y2] = corners[before]!;
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) within = !within;
    }
    if (within) found.push(n);
  }
  return found;
}
