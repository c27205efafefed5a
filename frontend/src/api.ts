// Calls to the server. An exported page has none: it answers from its own files.
import { exported } from "./exported";
import { requestParameters, type Search } from "./search";
import { errorMessage, readAnswer } from "./stream";
import type {
  ActivationsView, By, DoseView, Edit, FeatureList, FeatureView, IndexInfo, LabelView, MapView, Message, Points, Preset,
  RankBy, ReadingView, StartView,
} from "./types";

const NO_ANSWER = "The server does not answer. Is sonde still running?";

class Problem extends Error {}

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  try {
    const response = await fetch(path, init);
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    throw new Problem(errorMessage(text) ?? `The server answered ${response.status}.`);
  } catch (error) {
    if (error instanceof Problem) throw error;
    // A request that the page gave up, even while its body was being read, is not an error.
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error(NO_ANSWER);
  }
}

const withBody = (body: object, signal: AbortSignal | null = null): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

function post<T>(path: string, body: object, signal?: AbortSignal): Promise<T> {
  return call<T>(path, withBody(body, signal));
}

export const getIndex = () => (exported ? exported.getIndex() : call<IndexInfo>("api/index"));
export const getStart = () => (exported ? exported.getStart() : call<StartView>("api/start"));

export function getFeatures(search: Search, offset: number, limit: number, signal?: AbortSignal): Promise<FeatureList> {
  if (exported) return exported.getFeatures(search, offset, limit);
  const parameters = requestParameters(search);
  parameters.set("offset", String(offset));
  parameters.set("limit", String(limit));
  return call<FeatureList>(`api/features?${parameters}`, { signal: signal ?? null });
}

export function getNumbers(search: Search, signal?: AbortSignal): Promise<number[]> {
  if (exported) return exported.getNumbers(search);
  return call<number[]>(`api/numbers?${requestParameters(search)}`, { signal: signal ?? null });
}

export const getFeature = (number: number, by: By = "top"): Promise<FeatureView> =>
  exported ? exported.getFeature(number) : call<FeatureView>(`api/features/${number}?by=${by}`);

export async function getMap(): Promise<{ map: MapView; points: Points }> {
  const map = await (exported ? exported.getMap() : call<MapView>("api/map"));
  const bytes = await (exported ? exported.getPoints() : (await fetch("api/map/points")).arrayBuffer());
  const n = map.n_features;
  const column = (place: number) => new Float32Array(bytes, 4 * n * place, n);
  return { map, points: { x: column(0), y: column(1), cluster: new Int32Array(bytes, 8 * n, n), density: column(3) } };
}

export const pictureAddress = (document: number, number: number) =>
  exported ? `data/picture-${document}-${number}.webp` : `api/pictures/${document}/${number}`;

export const getActivations = (number: number, text: string) =>
  post<ActivationsView>(`api/features/${number}/activations`, { text });
export const readText = (text: string, unlike: string, on: RankBy, signal: AbortSignal) =>
  post<ReadingView>("api/read", { text, unlike, on }, signal);
export const addLabel = (number: number, text: string) => post<LabelView>(`api/features/${number}/label`, { text });
export const addNote = (number: number, text: string) => post<string[]>(`api/features/${number}/note`, { text });
export const getDoses = (question: string, edits: Edit[], doses: number[]) =>
  post<DoseView[]>("api/dose", { question, edits, doses });
export const getPresets = () => call<Preset[]>("api/presets");
export const savePreset = (name: string, edits: string[]) => post<Preset[]>("api/presets", { name, edits });

// The answer to a conversation, as it is written: `show` gets all of it so far. The likeliest tokens are taken, so that
// the same question has the same answer.
export async function ask(messages: Message[], edits: Edit[], show: (answer: string) => void): Promise<void> {
  const body = { messages, edits, max_tokens: 100, temperature: 0, stream: true };
  const response = await fetch("v1/chat/completions", withBody(body)).catch(() => null);
  if (!response?.body) throw new Error(NO_ANSWER);
  if (!response.ok) {
    throw new Error(errorMessage(await response.text()) ?? `The server answered ${response.status}.`);
  }
  for await (const answer of readAnswer(response.body)) show(answer);
}
