// The points of the map: where they lie in pixels, how they are drawn, and which are picked.
import type { ClusterView, Points } from "./types";

export type View = { x: number; y: number; scale: number }; // what is in the middle, and pixels a unit
export type Size = { width: number; height: number }; // in pixels
export type Pixel = [number, number];
export type Colouring = "cluster" | "density" | "search";
export type Look = {
  colour: Colouring; found: Set<number> | null; chosen: Set<number>; hovered: number; dark: boolean;
};
export type PlacedName = { left: number; top: number; name: string; width: number };

const [NEAR, NEAR_FINGER] = [12, 24]; // pixels within which a point is picked
const MOST_NAMES = 60;
const COLOURS = 24; // of clusters and of densities

// The view in which all points are seen, with a margin.
export function fit({ x, y }: Points, { width, height }: Size): View {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let n = 0; n < x.length; n++) {
    if (x[n]! < left) left = x[n]!;
    if (x[n]! > right) right = x[n]!;
    if (y[n]! < top) top = y[n]!;
    if (y[n]! > bottom) bottom = y[n]!;
  }
  if (left > right) return { x: 0, y: 0, scale: 1 };
  const scale = 0.92 * Math.min(width / Math.max(1e-6, right - left), height / Math.max(1e-6, bottom - top));
  return { x: (left + right) / 2, y: (top + bottom) / 2, scale };
}

export const toPixel = (view: View, { width, height }: Size, x: number, y: number): Pixel =>
  [(x - view.x) * view.scale + width / 2, (y - view.y) * view.scale + height / 2];
export const fromPixel = (view: View, { width, height }: Size, [left, top]: Pixel): Pixel =>
  [(left - width / 2) / view.scale + view.x, (top - height / 2) / view.scale + view.y];

// The view moved by pixels, and scaled so that what is at one pixel stays there.
export const pan = (view: View, right: number, down: number): View =>
  ({ ...view, x: view.x - right / view.scale, y: view.y - down / view.scale });
export function zoom(view: View, size: Size, factor: number, pixel: Pixel = [size.width / 2, size.height / 2]): View {
  const [x, y] = fromPixel(view, size, pixel);
  return { scale: view.scale * factor, x: x + (view.x - x) / factor, y: y + (view.y - y) / factor };
}

// The view after two fingers have moved: what was in the middle between them still is, and has grown as their distance.
export function pinch(view: View, size: Size, before: [Pixel, Pixel], after: [Pixel, Pixel]): View {
  const middle = ([one, other]: [Pixel, Pixel]): Pixel => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
  const distance = ([one, other]: [Pixel, Pixel]) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
  const [from, to] = [middle(before), middle(after)];
  return zoom(pan(view, to[0] - from[0], to[1] - from[1]), size, distance(after) / distance(before), to);
}

// Names of clusters, the largest first, as far as they have room; zooming in makes more.
export function placeNames(clusters: ClusterView[], view: View, size: Size): PlacedName[] {
  const placed: PlacedName[] = [];
  for (const cluster of [...clusters].sort((one, other) => other.count - one.count)) {
    const [left, top] = toPixel(view, size, cluster.x, cluster.y);
    const width = 7 * cluster.name.length + 10;
    const isInside = left >= width / 2 && left <= size.width - width / 2 && top >= 8 && top <= size.height - 8;
    const overlaps = (other: PlacedName) =>
      Math.abs(other.left - left) < (other.width + width) / 2 && Math.abs(other.top - top) < 18;
    if (isInside && !placed.some(overlaps)) placed.push({ left, top, name: cluster.name, width });
    if (placed.length === MOST_NAMES) break;
  }
  return placed;
}

export function draw(canvas: HTMLCanvasElement, points: Points, view: View, ratio: number, look: Look): void {
  const context = canvas.getContext("2d")!;
  const { width, height } = canvas;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const square = (n: number, colour: number, side: number) => {
    const left = Math.round((points.x[n]! - view.x) * view.scale * ratio + width / 2 - side / 2);
    const top = Math.round((points.y[n]! - view.y) * view.scale * ratio + height / 2 - side / 2);
    if (!(left > -side && top > -side && left < width && top < height)) return; // also of points without a place
    const [from, to] = [Math.max(0, left), Math.min(width, left + side)];
    for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
      pixels.fill(colour, row * width + from, row * width + to);
    }
  };
  const side = pointSide(points.x.length, view.scale, ratio);
  const colour = colouring(points, look);
  for (let n = 0; n < points.x.length; n++) square(n, colour(n), side);
  const bright = look.dark ? hsl(22, 0.62, 0.85) : hsl(20, 0.42, 0.8);
  if (look.colour === "search") for (const n of look.found ?? []) square(n, bright, side + ratio);
  for (const n of look.chosen) square(n, bright, side + 2 * ratio);
  if (look.hovered >= 0) square(look.hovered, bright, side + 4 * ratio);
  context.putImageData(image, 0, 0);
}

// The side of a point's square in the canvas's pixels: smaller for many points, larger as one zooms in.
function pointSide(n: number, scale: number, ratio: number): number {
  const side = 60 / Math.sqrt(n) + Math.log2(Math.max(1, scale / 20));
  return Math.max(1, Math.round(ratio * Math.min(5, Math.max(1, side))));
}

function colouring(points: Points, { colour, dark }: Look): (n: number) => number {
  const plain = dark ? hsl(40, 0.34, 0.1) : hsl(40, 0.78, 0.12);
  if (colour === "search") return () => plain;
  const places = Array.from({ length: COLOURS }, (_, place) => place);
  if (colour === "cluster") {
    const colours = places.map((place) => hsl((place * 137.5) % 360, dark ? 0.6 : 0.48));
    return (n) => (points.cluster[n]! < 0 ? plain : colours[points.cluster[n]! % COLOURS]!);
  }
  const colours = places.map((place) => hsl(250 - place * 10, dark ? 0.35 + place * 0.014 : 0.68 - place * 0.014, 0.6));
  const quarter = (n: number) => Math.floor(COLOURS - 1 + 4 * Math.log10(points.density[n]! + 1e-9)); // of a decade
  return (n) => colours[Math.max(0, Math.min(COLOURS - 1, quarter(n)))]!;
}

// Hue in degrees, lightness and saturation from 0 to 1, as a pixel of a canvas (ABGR).
function hsl(hue: number, lightness: number, saturation = 0.55): number {
  const part = (shift: number) => {
    const k = (shift + hue / 30) % 12;
    const chroma = saturation * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return (255 << 24) | (part(4) << 16) | (part(8) << 8) | part(0);
}

// The point nearest to a pixel, or -1 where none is near; a finger covers more than a mouse points at.
export function nearestPoint(points: Points, view: View, size: Size, pixel: Pixel, isFinger = false): number {
  const [x, y] = fromPixel(view, size, pixel);
  let [best, least] = [-1, ((isFinger ? NEAR_FINGER : NEAR) / view.scale) ** 2];
  for (let n = 0; n < points.x.length; n++) {
    const [dx, dy] = [points.x[n]! - x, points.y[n]! - y];
    const far = dx * dx + dy * dy;
    if (far < least) [best, least] = [n, far];
  }
  return best;
}

// Which points lie within an outline of pixels, by the number of its edges that a ray from the point crosses.
export function inside(points: Points, view: View, size: Size, outline: Pixel[]): number[] {
  const corners = outline.map((pixel) => fromPixel(view, size, pixel));
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
