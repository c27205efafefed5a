import { describe, expect, it } from "vitest";
import { HIGHEST, inView } from "../src/rows";

describe.each([10, 1000, 100_000, 1_000_000, 34_000_000])("a table of %i rows", (total) => {
  const [row, view] = [66, 640];
  it("shows the first rows at the top and the last at the bottom", () => {
    expect(inView(total, row, view, 0).first).toBe(0);
    const end = inView(total, row, view, 1e12);
    expect(end.first + end.count).toBe(total);
    const height = Math.min(total * row, HIGHEST);
    expect(end.height).toBe(height);
    const bottom = end.top + end.count * row; // of the last row, in the room that scrolls
    expect(Math.abs(bottom - Math.max(height, Math.min(total * row, view)))).toBeLessThan(row);
  });
  it("fills the view wherever it is scrolled to, and in order", () => {
    let before = 0;
    for (let part = 0; part <= 50; part++) {
      const scrolled = (part / 50) * Math.max(0, Math.min(total * row, HIGHEST) - view);
      const { first, count, top } = inView(total, row, view, scrolled);
      expect(first).toBeGreaterThanOrEqual(before);
      expect(top).toBeLessThanOrEqual(scrolled + 1e-6);
      expect(top + count * row).toBeGreaterThanOrEqual(Math.min(scrolled + view, total * row) - 1e-6);
      before = first;
    }
  });
});

it("no rows need no room", () => expect(inView(0, 66, 640, 0)).toEqual({ first: 0, count: 0, top: 0, height: 0 }));
