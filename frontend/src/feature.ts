// What the view of a feature shows beside its own numbers.
import { percent } from "./format";
import type { Bar } from "./plots";
import type { FeatureRow, FeatureView, PictureView } from "./types";

export function activationBars({ histogram, maximum }: FeatureView): Bar[] {
  const width = maximum / (histogram.length || 1);
  return histogram.map((count, place) => ({ low: place * width, high: (place + 1) * width, count }));
}

// Python that finds the feature.
export const pythonSnippet = (folder: string, number: number) => `import sonde

index = sonde.load_index(${JSON.stringify(folder)})
feature = index.feature(${number})
for example in feature.examples(5):
    print(f"{example.value:.2f}", example.text)
`;

// How strong the strongest activation on a text is, against the maximum of the index.
export function strength(values: number[], maximum: number): string {
  const strongest = Math.max(0, ...values);
  if (strongest === 0) return "It does not fire here.";
  const upTo = `Up to ${strongest.toFixed(2)}`;
  if (isBeyond(strongest, maximum)) return `${upTo}: beyond the maximum in the index, ${maximum.toFixed(2)}.`;
  return `${upTo}, ${percent(strongest / maximum)} of the maximum.`;
}

export const isBeyond = (value: number, maximum: number) => value > maximum * 1.001; // more than rounding

export function toRow(feature: FeatureView): FeatureRow {
  const { density, maximum, mean, same_word } = feature;
  const [label, example] = [feature.labels[0]?.label ?? null, feature.examples[0] ?? null];
  return { feature: feature.feature, label, density, maximum, mean, same_word, neuron: null, example };
}

export const patchName = (patch: number, columns: number) =>
  `row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
export const strongestPatch = ({ values }: PictureView) => values.indexOf(Math.max(...values));

export function describePicture(picture: PictureView): string {
  const strongest = strongestPatch(picture);
  const value = picture.values[strongest] ?? 0;
  const where = `The feature fires most at ${patchName(strongest, picture.columns)}: ${value.toFixed(2)}.`;
  return `Picture ${picture.number + 1} of the document. ${value > 0 ? where : "The feature fires nowhere in it."}`;
}
