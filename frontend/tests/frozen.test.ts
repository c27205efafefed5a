import { expect, it } from "vitest";
import type { FeatureRow } from "../src/api";
import { findRows } from "../src/frozen";
import { NOTHING } from "../src/route";

const row = (feature: number, label: string | null, density: number, neuron: number | null = null): FeatureRow => ({
  feature, label, density, maximum: density * 100, mean: 1, same_word: 0.5, neuron,
  example: { document: 0, position: 0, value: 1, peak: 0, pieces: [{ text: `the ${feature} Bridge`, value: 1 }], pictures: [] },
});
const rows = [row(0, "golden gate", 0.1), row(1, null, 0.01, 0.4), row(2, "Tower", 0.2)];
const numbers = (search: Partial<typeof NOTHING>) => findRows(rows, { ...NOTHING, ...search }).map((one) => one.feature);

it("finds words of labels, numbers and examples", () => {
  expect(numbers({})).toEqual([0, 1, 2]);
  expect(numbers({ query: "BRIDGE tower" })).toEqual([2]);
  expect(numbers({ query: "1 bridge" })).toEqual([1]);
  expect(numbers({ query: "zebra" })).toEqual([]);
});
it("keeps to bounds and order", () => {
  expect(numbers({ sort: "density", descending: true })).toEqual([2, 0, 1]);
  expect(numbers({ sort: "density" })).toEqual([1, 0, 2]);
  expect(numbers({ bounds: { density: [0.05, 0.15] } })).toEqual([0]);
  expect(numbers({ bounds: { neuron: [0.3, null] } })).toEqual([1]);
});
