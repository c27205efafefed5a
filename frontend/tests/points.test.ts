import { describe, expect, it } from "vitest";
import {
  draw, fit, fromPixel, inside, nearestPoint, pan, pinch, placeNames, toPixel, zoom, type Look, type Pixel,
} from "../src/points";
import type { Points } from "../src/types";

const points: Points = {
  x: Float32Array.from([0, 10, 10, 0, 5, NaN]), y: Float32Array.from([0, 0, 10, 10, 5, NaN]),
  cluster: Int32Array.from([0, 0, 1, 1, -1, -1]), density: Float32Array.from([1, 0.1, 0.01, 0.001, 0, 0]),
};
const size = { width: 800, height: 400 };
const view = fit(points, size);
const pixel = (n: number): Pixel => toPixel(view, size, points.x[n]!, points.y[n]!);

describe("two fingers", () => {
  const before: [Pixel, Pixel] = [[100, 100], [200, 100]];
  it("keep what is between them there, and scale it as their distance", () => {
    const middle = fromPixel(view, size, [150, 100]);
    const after = pinch(view, size, before, [[150, 150], [350, 150]]);
    expect(after.scale / view.scale).toBeCloseTo(2);
    const [left, top] = toPixel(after, size, ...middle);
    expect([left, top]).toEqual([expect.closeTo(250), expect.closeTo(150)]);
  });
  it("that stay where they are change nothing, also on one spot", () => {
    for (const fingers of [before, [[5, 5], [5, 5]] as [Pixel, Pixel]]) {
      const after = pinch(view, size, fingers, fingers);
      for (const name of ["x", "y", "scale"] as const) expect(after[name]).toBeCloseTo(view[name]);
    }
  });
});

it("a finger picks a point from further off than a mouse", () => {
  const [left, top] = pixel(4);
  expect(nearestPoint(points, view, size, [left + 18, top])).toBe(-1);
  expect(nearestPoint(points, view, size, [left + 18, top], true)).toBe(4);
});

describe("the view", () => {
  it("is fitted so that every point is seen", () => {
    for (let n = 0; n < 5; n++) {
      const [x, y] = pixel(n);
      expect(x > 0 && x < size.width && y > 0 && y < size.height).toBe(true);
      expect(fromPixel(view, size, [x, y])).toEqual([points.x[n], points.y[n]]);
    }
    const none = { ...points, x: Float32Array.from([NaN]), y: Float32Array.from([NaN]) };
    expect(fit(none, size)).toEqual({ x: 0, y: 0, scale: 1 });
  });
  it("moves with the pointer", () => {
    const [before, after] = [pixel(2), toPixel(pan(view, 30, -20), size, 10, 10)];
    expect(after[0] - before[0]).toBeCloseTo(30);
    expect(after[1] - before[1]).toBeCloseTo(-20);
  });
  it("is scaled around a pixel, by default its middle", () => {
    const zoomed = zoom(view, size, 2, pixel(1));
    const [[x, y], [fixedX, fixedY]] = [toPixel(zoomed, size, 10, 0), pixel(1)];
    expect([x, y].map(Math.round)).toEqual([fixedX, fixedY].map(Math.round));
    expect(zoom(view, size, 0.5)).toEqual({ ...view, scale: view.scale / 2 });
  });
});

describe("picking", () => {
  it("finds the point under the pointer, and none where there is none", () => {
    for (let n = 0; n < 5; n++) {
      const [x, y] = pixel(n);
      expect(nearestPoint(points, view, size, [x + 3, y - 3])).toBe(n);
    }
    expect(nearestPoint(points, view, size, [1, 1])).toBe(-1);
  });
  it("finds what lies within an outline", () => {
    const [left, top] = pixel(0);
    const [right, bottom] = pixel(2);
    const middle = (left + right) / 2 + 1;
    const leftHalf: Pixel[] = [
      [left - 5, top - 5], [middle, top - 5], [middle, bottom + 5], [left - 5, bottom + 5],
    ];
    expect(inside(points, view, size, leftHalf)).toEqual([0, 3, 4]);
    expect(inside(points, view, size, [[1, 1], [2, 1], [2, 2]])).toEqual([]);
  });
});

describe("names of clusters", () => {
  const cluster = (name: string, x: number, y: number, count: number) => ({ name, x, y, count });
  const placed = (...clusters: ReturnType<typeof cluster>[]) =>
    placeNames(clusters, view, size).map(({ name }) => name);
  it("are placed the largest first, as far as there is room", () => {
    const clusters = [cluster("small", 5, 5, 1), cluster("large", 5, 5, 9), cluster("far", 5, 9, 2)];
    expect(placed(...clusters)).toEqual(["large", "far"]);
  });
  it("are left out at the edge", () => {
    expect(placed(cluster("name", -20, 5, 1), cluster("name", 5, 90, 1))).toEqual([]);
  });
  it("are sixty at most", () => {
    const many = Array.from({ length: 200 }, (_, n) => cluster("n", (n % 14) * 0.8, Math.floor(n / 14) * 0.7, 1));
    expect(placed(...many).length).toBe(60);
  });
});

describe("drawing", () => {
  // The colours of a canvas of one pixel a unit, from [0, 0] to [width, height].
  const drawn = (look: Partial<Look>, x = [10, 30, 50], y = [10, 10, 10]) => {
    const [width, height] = [60, 20];
    const data = new Uint8ClampedArray(4 * width * height);
    const context = { createImageData: () => ({ data }), putImageData: () => {} };
    const canvas = { width, height, getContext: () => context } as unknown as HTMLCanvasElement;
    const some = { ...points, x: Float32Array.from(x), y: Float32Array.from(y), cluster: Int32Array.of(0, 1, -1) };
    const all: Look = { colour: "cluster", found: null, chosen: new Set(), hovered: -1, dark: false, ...look };
    draw(canvas, some, { x: 30, y: 10, scale: 1 }, 1, all);
    const pixels = new Uint32Array(data.buffer);
    return { at: (left: number, top: number) => pixels[top * width + left]!, filled: pixels.filter(Boolean).length };
  };

  it("fills a square at each point, and nothing beside them", () => {
    const { at, filled } = drawn({});
    expect([at(10, 10), at(30, 10), at(50, 10)].every((colour) => colour !== 0)).toBe(true);
    expect([at(20, 10), at(10, 2)]).toEqual([0, 0]);
    expect(filled).toBe(3 * 5 * 5);
  });
  it("cuts squares at the edge, and leaves out points that are outside or have no place", () => {
    expect(drawn({}, [0, 90, NaN], [10, 10, NaN]).filled).toBeLessThan(5 * 5);
  });
  it("tells clusters, densities and what is found apart by colour", () => {
    const colours = (look: Partial<Look>) => [10, 30, 50].map((left) => drawn(look).at(left, 10));
    expect(new Set(colours({ colour: "cluster" })).size).toBe(3);
    expect(new Set(colours({ colour: "density" })).size).toBe(3);
    const [plain, bright, other] = colours({ colour: "search", found: new Set([1]) });
    expect(plain).toBe(other);
    expect(bright).not.toBe(plain);
    expect(colours({ colour: "search", dark: true })[0]).not.toBe(plain);
  });
  it("draws the chosen and the hovered point larger", () => {
    const [none, chosen, hovered] = [drawn({}), drawn({ chosen: new Set([0]) }), drawn({ hovered: 0 })];
    expect([chosen.filled - none.filled, hovered.filled - none.filled]).toEqual([7 * 7 - 25, 9 * 9 - 25]);
  });
});
