// Ranges as they are written on the command line: 0.001..0.01, ..0.01 or 0.5..
import { NUMBER } from "./edits";

export type Range = [number | null, number | null];

const RANGE = new RegExp(`^ *(${NUMBER})? *\\.\\. *(${NUMBER})? *$`);

export function parseRange(text: string): Range | null {
  const [all, low, high] = RANGE.exec(text) ?? [];
  if (all === undefined || (low ?? high) === undefined) return null;
  return [low === undefined ? null : Number(low), high === undefined ? null : Number(high)];
}

export const formatRange = ([low, high]: Range) => `${low ?? ""}..${high ?? ""}`;
