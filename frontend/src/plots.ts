// Where the parts of plots are drawn, in the units of their drawings.
import { axisEnd } from "./format";

export type Bar = { low: number; high: number; count: number };
export type Curve = { name: string; values: (number | null)[]; logarithmic?: boolean };
export type DrawnCurve = { name: string; points: string[]; low: string; high: string };

// The height of each bar, the tallest `high`; counts above zero are always visible.
export function barHeights(bars: Bar[], high: number, logarithmic: boolean): number[] {
  const size = (count: number) => (logarithmic ? Math.log1p(count) : count);
  const tallest = Math.max(1e-30, ...bars.map((bar) => size(bar.count)));
  return bars.map((bar) => (bar.count ? Math.max(2, (high * size(bar.count)) / tallest) : 0));
}

// How x values lie between two edges.
export function across(x: number[], left: number, right: number): number[] {
  const [first, last] = [x[0] ?? 0, x[x.length - 1] ?? 0];
  return x.map((value) => left + ((value - first) / Math.max(1e-30, last - first)) * (right - left));
}

// A curve between two heights, on a scale of its own, with its least and largest value; unknown values are left out.
export function drawCurve({ name, values, logarithmic }: Curve, x: number[], top: number, bottom: number): DrawnCurve {
  const scale = (value: number) => (logarithmic ? Math.log(Math.max(value, 1e-12)) : value);
  const scaled = values.map((value) => (value === null ? null : scale(value)));
  const known = scaled.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = (value: number) => top + (bottom - top) * (1 - (value - low) / Math.max(1e-30, high - low));
  const points = scaled.flatMap((value, place) =>
    value === null ? [] : [`${x[place]!.toFixed(1)},${y(value).toFixed(1)}`],
  );
  const end = (value: number) => axisEnd(logarithmic ? Math.exp(value) : value);
  return { name, points, low: end(low), high: end(high) };
}
