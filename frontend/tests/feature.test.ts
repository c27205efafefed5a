import { describe, expect, it } from "vitest";
import { activationBars, describePicture, isBeyond, patchName, pythonSnippet, strength, toRow } from "../src/feature";
import { allHits, readingTable, valuesOnTexts } from "../src/reading";
import type { ReadingView } from "../src/types";
import { example, feature, hit } from "./fixtures";

describe("a feature", () => {
  it("has bars that cover its activations from 0 to its maximum", () => {
    expect(activationBars(feature(0, { histogram: [5, 1], maximum: 4 }))).toEqual([
      { low: 0, high: 2, count: 5 }, { low: 2, high: 4, count: 1 },
    ]);
    expect(activationBars(feature(0))).toEqual([]);
  });
  it("is found by Python whatever the folder is called", () => {
    expect(pythonSnippet('a "b"', 7)).toContain('load_index("a \\"b\\"")\nfeature = index.feature(7)');
  });
  it("is a row of a list with its newest label and its strongest example", () => {
    const label = (text: string) => ({ label: text, by: "person", at: 0, because: [] });
    const view = feature(3, { labels: [label("new"), label("old")], examples: [example("a"), example("b")] });
    const { feature: number, label: name, example: shown } = toRow(view);
    expect([number, name, shown!.pieces[0]!.text]).toEqual([3, "new", "a"]);
    expect([toRow(feature(3)).label, toRow(feature(3)).example]).toEqual([null, null]);
  });
});

it.each([
  [[0, 0], "It does not fire here."], [[], "It does not fire here."],
  [[0, 1], "Up to 1.00, 50 % of the maximum."], [[2.001], "Up to 2.00, 100 % of the maximum."],
  [[3, 1], "Up to 3.00: beyond the maximum in the index, 2.00."],
])("%j against a maximum of 2: %s", (values, text) => expect(strength(values, 2)).toBe(text));
it("what rounding adds is not beyond the maximum", () => {
  expect([isBeyond(2.001, 2), isBeyond(2.01, 2)]).toEqual([false, true]);
});

describe("a picture", () => {
  const picture = { number: 0, piece: 3, rows: 2, columns: 3, values: [0, 0, 0, 0, 1.5, 1] };
  it("is described by its strongest patch", () => {
    expect(patchName(4, 3)).toBe("row 2, column 2");
    expect(describePicture(picture)).toBe(
      "Picture 1 of the document. The feature fires most at row 2, column 2: 1.50.",
    );
    expect(describePicture({ ...picture, values: Array(6).fill(0) })).toContain("fires nowhere in it");
  });
});

describe("a reading of two texts", () => {
  const [on, off] = [hit(1, [0.5, 2], [0]), hit(2, [3], [0, 1])]; // more on the first text, more on the second
  const reading: ReadingView = {
    pieces: ["a", "b"], strongest: [], names: {}, features: [on], other_pieces: ["c"], other_features: [off],
  };
  it("has hits of both, each with its values on both", () => {
    expect(allHits(reading)).toEqual([on, off]);
    expect(valuesOnTexts(reading, on)).toEqual({ first: [0.5, 2], second: [0] });
    expect(valuesOnTexts(reading, off)).toEqual({ first: [0, 1], second: [3] });
  });
  it("is a table of every token for every feature", () => {
    expect(readingTable(reading).rows).toEqual([
      ["text", 0, "a", 1, 0.5], ["text", 1, "b", 1, 2], ["unlike", 0, "c", 1, 0],
      ["text", 0, "a", 2, 0], ["text", 1, "b", 2, 1], ["unlike", 0, "c", 2, 3],
    ]);
  });
});
