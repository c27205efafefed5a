import { describe, expect, it } from "vitest";
import { ALL_FEATURES, changeBound, countText, findRows, orderBy, requestParameters } from "../src/search";
import { example, row } from "./fixtures";

describe("a search among rows in the page", () => {
  const rows = [
    row(0, { label: "golden gate", density: 0.1, example: example("the 0 Bridge") }),
    row(1, { density: 0.01, neuron: 0.4, example: example("the 1 Bridge") }),
    row(2, { label: "Tower", density: 0.2, example: example("the 2 Bridge") }),
  ];
  const numbers = (search: Partial<typeof ALL_FEATURES>) =>
    findRows(rows, { ...ALL_FEATURES, ...search }).map((found) => found.feature);

  it("finds words of labels, numbers and examples", () => {
    expect(numbers({})).toEqual([0, 1, 2]);
    expect(numbers({ query: "BRIDGE tower" })).toEqual([2]);
    expect(numbers({ query: "1 bridge" })).toEqual([1]);
    expect(numbers({ query: "zebra" })).toEqual([]);
  });
  it("gives phrases first, then whole words, then parts of others", () => {
    const said = ["a gateway, golden", "gate, painted golden", "the Golden Gate Bridge", "golden gates"];
    const labelled = said.map((label, number) => row(number, { label, example: null }));
    const found = findRows(labelled, { ...ALL_FEATURES, query: "golden gate" });
    expect(found.map((one) => one.feature)).toEqual([2, 1, 0, 3]);
  });
  it("keeps to bounds and order, and leaves the rows as they were", () => {
    expect(numbers({ sort: "density", descending: true })).toEqual([2, 0, 1]);
    expect(numbers({ sort: "density" })).toEqual([1, 0, 2]);
    expect(numbers({ sort: "number", descending: true })).toEqual([2, 1, 0]);
    expect(numbers({ bounds: { density: [0.05, 0.15] } })).toEqual([0]);
    expect(numbers({ bounds: { neuron: [0.3, null] } })).toEqual([1]);
    expect(rows.map((kept) => kept.feature)).toEqual([0, 1, 2]);
  });
});

it("a request has a parameter for each bound that is set", () => {
  const bounds = { density: [0.001, null], mean: [0, 3] } as const;
  const search = { ...ALL_FEATURES, query: "a & b", bounds: { density: [...bounds.density], mean: [...bounds.mean] } };
  const parameters = Object.fromEntries(requestParameters(search as typeof ALL_FEATURES));
  expect(parameters).toEqual({
    query: "a & b", by: "words", sort: "best", descending: "false", density_min: "0.001", mean_min: "0", mean_max: "3",
  });
});

describe("bounds as they are typed", () => {
  const bounds = { density: [0.1, null] } as typeof ALL_FEATURES.bounds;
  it("are set by a range, and removed by an empty field", () => {
    expect(changeBound(bounds, "mean", " ..3 ")).toEqual({ density: [0.1, null], mean: [null, 3] });
    expect(changeBound(bounds, "density", "1..2")).toEqual({ density: [1, 2] });
    expect(changeBound(bounds, "density", " ")).toEqual({});
  });
  it("stay while a range is not finished", () => expect(changeBound(bounds, "density", "0.")).toBe(bounds));
});

describe("a click on a column", () => {
  it("orders by it: statistics from the largest, numbers from the smallest", () => {
    expect(orderBy(ALL_FEATURES, "maximum")).toEqual({ sort: "maximum", descending: true });
    expect(orderBy(ALL_FEATURES, "number")).toEqual({ sort: "number", descending: false });
  });
  it("turns the order around where it is that column's already", () => {
    const search = { ...ALL_FEATURES, ...orderBy(ALL_FEATURES, "maximum") };
    expect(orderBy(search, "maximum")).toEqual({ sort: "maximum", descending: false });
  });
});

describe("what was found in words", () => {
  const search = { ...ALL_FEATURES, query: "the" };
  it("is a count where all of it is given", () => {
    expect(countText(1234, false, ALL_FEATURES)).toBe("1,234 features");
    expect(countText(1, false, ALL_FEATURES)).toBe("1 feature");
    expect(countText(1000, false, search)).toBe("1,000 found, best first");
    expect(countText(12, false, { ...search, sort: "density" })).toBe("12 found");
  });
  it("is no count where only the best are given", () => {
    expect(countText(1000, true, search)).toBe("more than 1,000 found, the best 1,000 listed");
    const bounded = { ...search, bounds: { density: [0.1, null] } } as typeof ALL_FEATURES;
    expect(countText(12, true, bounded)).toBe("12 within the bounds, among the best that are looked at, best first");
  });
});
