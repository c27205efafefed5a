// Numbers, dates and tokens as text.
export const grouped = (count: number) => count.toLocaleString("en"); // 12,345
export const rounded = (value: number, digits: number) => value.toLocaleString("en", { maximumFractionDigits: digits });
export const significant = (value: number) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
export const percent = (share: number, digits = 0) => `${(100 * share).toFixed(digits)} %`;
export const orDash = (value: number | null) => (value === null ? "-" : value.toFixed(2));

// A share of tokens: of features that fire on few, three decimals would show nothing.
export function density(share: number): string {
  if (share === 0) return "-";
  return share < 1e-5 ? `${(100 * share).toExponential(0)} %` : percent(share, 3);
}

// The bound of an interval in a plot's title, and the number at the end of an axis.
export const bound = (value: number) => (Math.abs(value) >= 0.01 || value === 0 ? value.toFixed(2) : scientific(value));
export function axisEnd(value: number): string {
  const far = value >= 1000 || (value !== 0 && Math.abs(value) < 0.001);
  return far ? scientific(value) : String(Number(value.toPrecision(3)));
}
const scientific = (value: number) => value.toExponential(1);

// Tokens that stand for no text: <|im_start|>, <s>, <bos>, [CLS] and their like.
const SPECIAL = /^(<\|[^|]*\|>|<\/?s>|<(bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>|\[(CLS|SEP|PAD|UNK|MASK)\])$/;
export const isSpecial = (token: string) => SPECIAL.test(token.trim());

// White space alone as marks, as it would not be seen where it is shaded or can be chosen.
const marked = (token: string) => token.replaceAll("\n", "\u21b5").replaceAll(" ", "\u00a0").replaceAll("\t", "\u21e5");

// A token as it is shown in a text; a break of lines comes after its mark.
export const withBreaks = (token: string) => (token.trim() ? token : marked(token).replaceAll("\u21b5", "\u21b5\n"));

// The same in two: what stands on a token's button, and the breaks of lines after it, which a button would swallow.
export const breaksAfter = (token: string) =>
  token.trim() ? /\n*$/.exec(token)![0] : token.replace(/[^\n]/g, "");
export const buttonText = (token: string) => (token.trim() ? token.replace(/\n+$/, "") : marked(token));

// Where a short example begins: so few letters before the strongest token that it is seen on a phone, too.
const [MOST_BEFORE, LETTERS_BEFORE] = [9, 28];
export function shortStart(tokens: string[], peak: number): number {
  let [start, letters] = [peak, 0];
  while (start > 0 && peak - start < MOST_BEFORE) {
    letters += tokens[start - 1]!.length;
    if (letters > LETTERS_BEFORE) break;
    start--;
  }
  return start;
}

// A token's text, quoted where it is nothing but white space.
export const visible = (token: string) => token.trim() || JSON.stringify(token);

export const date = (seconds: number) =>
  new Date(1000 * seconds).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
