/** How deeply a token is shaded by a feature's value on it: visibly from the weakest on, and fully at the maximum. */
export const glow = (value: number, maximum: number): string =>
  (0.12 + 0.68 * (maximum > 0 ? Math.min(1, value / maximum) : 0)).toFixed(3);
