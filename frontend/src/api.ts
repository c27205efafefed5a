// Calls to the server, with the types that it publishes. An exported page has no server: it answers from its own files.
import { frozen } from "./frozen";
import { STATISTICS, type Search } from "./route";
import type { components, operations } from "./wire";

type Wire = components["schemas"];
export type IndexInfo = Wire["IndexInfo"];
export type FeatureList = Wire["FeatureList"];
export type FeatureRow = Wire["FeatureRow"];
export type FeatureView = Wire["FeatureView"];
export type ExampleView = Wire["ExampleView"];
export type PictureView = Wire["PictureView"];
export type Preset = Wire["Preset"];
export type Message = { role: "system" | "user" | "assistant"; content: string };
export type Edit = Wire["Edit"];
export type ReadingView = Wire["ReadingView"];
export type On = Wire["AskReading"]["on"] & string;
export type StartView = Wire["StartView"];
export type MapView = Wire["MapView"];
export type DoseView = Wire["DoseView"];
export type HitView = Wire["HitView"];
export type ActivationsView = Wire["ActivationsView"];
export type AskFeatures = NonNullable<operations["get_features_api_features_get"]["parameters"]["query"]>;
export type By = "top" | "interval" | "random";

class Problem extends Error {}

function readProblem(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: string | { message: string } };
    return typeof error === "string" ? error : error?.message;
  } catch {
    return undefined;
  }
}

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  try {
    const response = await fetch(path, init);
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    throw new Problem(readProblem(text) ?? `The server answered ${response.status}.`);
  } catch (error) {
    if (error instanceof Problem) throw error;
    // A request that was given up, also while its body was read, is no fault of anybody.
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is sonde still running?");
  }
}

export const getIndex = () => (frozen ? frozen.getIndex() : call<IndexInfo>("api/index"));
export const getStart = () => (frozen ? frozen.getStart() : call<StartView>("api/start"));

function asked({ query, by, sort, descending, bounds }: Search): URLSearchParams {
  const parameters = new URLSearchParams({ query, by, sort, descending: String(descending) });
  for (const name of STATISTICS) {
    const [low, high] = bounds[name] ?? [null, null];
    if (low !== null) parameters.set(`${name}_min`, String(low));
    if (high !== null) parameters.set(`${name}_max`, String(high));
  }
  return parameters;
}

export function getFeatures(search: Search, offset: number, limit: number, signal?: AbortSignal): Promise<FeatureList> {
  if (frozen) return frozen.getFeatures(search, offset, limit);
  const parameters = asked(search);
  parameters.set("offset", String(offset));
  parameters.set("limit", String(limit));
  return call<FeatureList>(`api/features?${parameters}`, { signal: signal ?? null });
}

export const getNumbers = (search: Search, signal?: AbortSignal): Promise<number[]> =>
  frozen ? frozen.getNumbers(search) : call<number[]>(`api/numbers?${asked(search)}`, { signal: signal ?? null });

export const getFeature = (number: number, by: By = "top"): Promise<FeatureView> =>
  frozen ? frozen.getFeature(number) : call<FeatureView>(`api/features/${number}?by=${by}`);

export const getActivations = (number: number, text: string) => post<ActivationsView>(`api/features/${number}/activations`, { text });

export type Points = { x: Float32Array; y: Float32Array; cluster: Int32Array; density: Float32Array };

export async function getMap(): Promise<{ map: MapView; points: Points }> {
  const map = await (frozen ? frozen.getMap() : call<MapView>("api/map"));
  const bytes = await (frozen ? frozen.getPoints() : fetch("api/map/points").then((response) => response.arrayBuffer()));
  const n = map.n_features;
  const column = (place: number) => new Float32Array(bytes, 4 * n * place, n);
  return { map, points: { x: column(0), y: column(1), cluster: new Int32Array(bytes, 8 * n, n), density: column(3) } };
}

export const getDoses = (question: string, edits: Edit[], doses: number[]) => post<DoseView[]>("api/dose", { question, edits, doses });

export function readText(text: string, unlike: string, on: On, signal: AbortSignal): Promise<ReadingView> {
  const headers = { "Content-Type": "application/json" };
  return call<ReadingView>("api/read", { method: "POST", headers, body: JSON.stringify({ text, unlike, on }), signal });
}

function post<T>(path: string, body: object): Promise<T> {
  return call<T>(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export const sayLabel = (number: number, text: string) => post<Wire["LabelView"]>(`api/features/${number}/label`, { text });
export const addNote = (number: number, text: string) => post<string[]>(`api/features/${number}/note`, { text });

export const pictureAddress = (document: number, number: number) =>
  frozen ? `data/picture-${document}-${number}.webp` : `api/pictures/${document}/${number}`;

export const getPresets = () => call<Preset[]>("api/presets");
export const savePreset = (name: string, edits: string[]) => post<Preset[]>("api/presets", { name, edits });

// A conversation's answer, as it is written: `tell` gets all that has been said so far. Greedy, so that the same question has the same answer.
export async function ask(messages: Message[], edits: Edit[], tell: (answer: string) => void, max_tokens = 60): Promise<void> {
  const body = JSON.stringify({ messages, edits, max_tokens, temperature: 0, stream: true });
  const response = await fetch("v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  if (!response?.body) throw new Error("The server does not answer. Is sonde still running?");
  if (!response.ok) throw new Error(readProblem(await response.text()) ?? `The server answered ${response.status}.`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [answer, rest] = ["", ""];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const problem = readProblem(data);
      if (problem) throw new Error(problem);
      for (const choice of (JSON.parse(data) as { choices: { delta: { content?: string } }[] }).choices) answer += choice.delta.content ?? "";
      tell(answer);
    }
  }
}
