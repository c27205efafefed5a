import { describe, expect, it } from "vitest";
import { across, barHeights, drawCurve } from "../src/plots";

describe("bars", () => {
  const bars = [0, 1, 9, 99].map((count) => ({ low: 0, high: 1, count }));
  it("are as high as their counts, and always visible", () => {
    expect(barHeights(bars, 99, false)).toEqual([0, 2, 9, 99]);
  });
  it("are as high as logarithms", () => {
    const heights = barHeights(bars, 100, true);
    expect([heights[0], heights[3]]).toEqual([0, 100]);
    expect(heights[2]).toBeCloseTo(50); // log 10 is half of log 100
  });
  it("may all be empty", () => expect(barHeights(bars.slice(0, 1), 99, true)).toEqual([0]));
});

describe("curves", () => {
  it("are spread between two edges", () => {
    expect(across([10, 15, 20], 4, 104)).toEqual([4, 54, 104]);
    expect(across([3], 4, 104)).toEqual([4]);
    expect(across([], 4, 104)).toEqual([]);
  });
  it("reach from their least value to their largest, without what is unknown", () => {
    const curve = drawCurve({ name: "a", values: [1, null, 3, 2] }, [0, 1, 2, 3], 10, 110);
    expect(curve).toEqual({ name: "a", points: ["0.0,110.0", "2.0,10.0", "3.0,60.0"], low: "1", high: "3" });
  });
  it("may be logarithmic", () => {
    const curve = drawCurve({ name: "a", values: [0.01, 0.1, 1], logarithmic: true }, [0, 1, 2], 0, 100);
    expect(curve.points).toEqual(["0.0,100.0", "1.0,50.0", "2.0,0.0"]);
    expect([curve.low, curve.high]).toEqual(["0.01", "1"]);
  });
  it("may be flat", () => {
    expect(drawCurve({ name: "a", values: [2, 2] }, [0, 1], 0, 100).points).toEqual(["0.0,100.0", "1.0,100.0"]);
  });
});
