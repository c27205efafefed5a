// How strongly tokens and patches of pictures are shaded by a feature's activation, relative to its maximum.
const relative = (value: number, maximum: number) => (maximum > 0 ? Math.min(1, value / maximum) : 0);

// Opacity behind a token where the feature fires: visible from the weakest on, and full at the maximum.
export const glow = (value: number, maximum: number): string => (0.12 + 0.68 * relative(value, maximum)).toFixed(3);

// Opacity of the veil over a patch: thin where the feature fires, and none at its maximum.
export const veil = (value: number, maximum: number): string =>
  (value > 0 && maximum > 0 ? 0.5 * (1 - relative(value, maximum)) : 0.78).toFixed(3);
