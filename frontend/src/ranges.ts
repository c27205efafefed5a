// Ranges as they are written on the command line: 0.001..0.01, ..0.01 or 0.5..
export type Range = [number | null, number | null];

export function parseRange(text: string): Range | null {
  const [low = "", high, more] = text.split("..");
  if (high === undefined || more !== undefined || text === "..") return null;
  const [from, to] = [low, high].map((bound) => (bound.trim() === "" ? null : Number(bound))) as Range;
  return Number.isNaN(from) || Number.isNaN(to) ? null : [from, to];
}

export const formatRange = ([low, high]: Range) => `${low ?? ""}..${high ?? ""}`;
