import { describe, expect, it } from "vitest";
import { glow } from "../src/shading";
import css from "../src/style.css?raw";

type Colour = [number, number, number];
const [light = "", dark = ""] = css.split("@media (prefers-color-scheme: dark)");

function variable(scheme: string, name: string): Colour {
  const text = new RegExp(`--${name}: ([^;]+);`).exec(scheme)![1]!;
  if (!text.startsWith("#")) return text.split(",").map(Number) as Colour;
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)) as Colour;
}
const over = (front: Colour, back: Colour, opacity: number) =>
  front.map((part, place) => opacity * part + (1 - opacity) * back[place]!) as Colour;

// Relative luminance and contrast as WCAG 2.2 defines them.
function luminance(colour: Colour): number {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}
function contrast(one: Colour, other: Colour): number {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high! + 0.05) / (low! + 0.05);
}

describe.each([["light", light], ["dark", dark]])("in the %s", (_, scheme) => {
  const ink = variable(scheme, "ink");
  it.each(["ground", "panel"])("a token on the %s is read at every strength", (name) => {
    for (const value of [0.01, 0.25, 0.5, 0.75, 1]) {
      const back = over(variable(scheme, "token-glow"), variable(scheme, name), Number(glow(value, 1)));
      expect(contrast(ink, back)).toBeGreaterThanOrEqual(4.5);
    }
  });
  it("soft words and links are read", () => {
    const pairs = [["soft", "ground"], ["soft", "panel"], ["accent", "ground"], ["bad", "ground"]] as const;
    for (const [name, back] of pairs) {
      expect(contrast(variable(scheme, name), variable(scheme, back))).toBeGreaterThanOrEqual(4.5);
    }
  });
});
