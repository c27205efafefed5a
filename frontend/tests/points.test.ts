import { describe, expect, it } from "vitest";
import type { Points } from "../src/api";
import { fit, inside, nearestPoint } from "../src/points";

const points: Points = {
  x: Float32Array.from([0, 10, 10, 0, 5, NaN]), y: Float32Array.from([0, 0, 10, 10, 5, NaN]),
  cluster: new Int32Array(6), density: new Float32Array(6),
};
const [wide, high] = [800, 400];
const view = fit(points, wide, high);
const pixel = (n: number): [number, number] => [(points.x[n]! - view.x) * view.scale + wide / 2, (points.y[n]! - view.y) * view.scale + high / 2];

describe("the map", () => {
  it("is fitted so that every point is seen", () => {
    for (let n = 0; n < 5; n++) {
      const [x, y] = pixel(n);
      expect(x > 0 && x < wide && y > 0 && y < high).toBe(true);
    }
    expect(fit({ ...points, x: Float32Array.from([NaN]), y: Float32Array.from([NaN]) }, wide, high)).toEqual({ x: 0, y: 0, scale: 1 });
  });
  it("finds the point under the pointer, and none in the void", () => {
    for (let n = 0; n < 5; n++) expect(nearestPoint(points, view, pixel(n)[0] + 3, pixel(n)[1] - 3, wide, high)).toBe(n);
    expect(nearestPoint(points, view, 1, 1, wide, high)).toBe(-1);
  });
  it("finds what lies within an outline", () => {
    const [left, top] = pixel(0);
    const [right, bottom] = pixel(2);
    const middle = (left + right) / 2 + 1;
    expect(inside(points, view, [[left - 5, top - 5], [middle, top - 5], [middle, bottom + 5], [left - 5, bottom + 5]], wide, high)).toEqual([0, 3, 4]);
    expect(inside(points, view, [[1, 1], [2, 1], [2, 2]], wide, high)).toEqual([]);
  });
});
