// A reading of one text, or of two: what a feature does on each, and all of it as a table.
import type { Table } from "./table";
import type { HitView, ReadingView } from "./types";

export const allHits = ({ features, other_features }: ReadingView): HitView[] => [...features, ...other_features];

// A feature's activations on the tokens of the first and of the second text.
export function valuesOnTexts(reading: ReadingView, hit: HitView): { first: number[]; second: number[] } {
  const isFirst = reading.features.includes(hit); // hits of the second text have its values first
  const [first, second] = isFirst ? [hit.values, hit.other_values] : [hit.other_values, hit.values];
  return { first, second };
}

export function readingTable(reading: ReadingView): Table {
  const rows = allHits(reading).flatMap((hit) => {
    const { first, second } = valuesOnTexts(reading, hit);
    const tokens = (text: string, pieces: string[], values: number[]) =>
      pieces.map((piece, place) => [text, place, piece, hit.feature, values[place] ?? 0]);
    return [...tokens("text", reading.pieces, first), ...tokens("unlike", reading.other_pieces, second)];
  });
  return { columns: ["text", "token", "piece", "feature", "activation"], rows };
}
