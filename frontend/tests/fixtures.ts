// Features and answers of the server, as tests need them.
import type { ExampleView, FeatureRow, FeatureView, HitView, IndexInfo } from "../src/types";

export const example = (text: string): ExampleView => ({
  document: 0, position: 0, value: 1, peak: 0, pieces: [{ text, value: 1 }], pictures: [],
});

export const row = (feature: number, more: Partial<FeatureRow> = {}): FeatureRow => ({
  feature, label: null, density: 0.1, maximum: 1, mean: 1, same_word: 0.5, neuron: null, example: null, ...more,
});

export const feature = (number: number, more: Partial<FeatureView> = {}): FeatureView => ({
  feature: number, labels: [], scores: [], notes: [], density: 0.1, maximum: 2, mean: 1, same_word: 0.5, neuron: null,
  kin: [], quantiles: [], histogram: [], neighbours: [], fires_with: [], top_logits: [], bottom_logits: [],
  examples: [], ...more,
});

export const hit = (feature: number, values: number[], other_values: number[]): HitView => ({
  feature, values, other_values, score: 1, maximum: 2, label: null, usual: [],
});

export const info = (n_features: number) => ({ n_features, model: "model" }) as IndexInfo;
