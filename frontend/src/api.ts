// Calls to the server. An exported page has none: it answers from its own files.
import { exported } from "./exported";
import { isStop, Problem } from "./problem";
import { requestParameters, type Search } from "./search";
import { errorMessage, readAnswer } from "./stream";
import type {
  ActivationsView, By, DoseView, Edit, FeatureList, FeatureView, FoundNumbers, IndexInfo, LabelView, MapView, Message,
  Points, Preset, RankBy, ReadingView, StartView,
} from "./types";

const NO_ANSWER = "The server does not answer. Is sonde still running?";
const [QUICK_S, WITH_MODEL_S] = [60, 900]; // the longest waits: for what is on disk, and for a model that may be loaded

// What a request that failed is shown as; one that the page gave up, even while its body was read, is not an error.
function asProblem(error: unknown, longest_s: number): unknown {
  if (error instanceof Problem || isStop(error)) return error;
  const isLate = error instanceof DOMException && error.name === "TimeoutError";
  return new Problem(isLate ? `The server has not answered for ${longest_s} seconds.` : NO_ANSWER, true);
}

const refusal = (status: number, body: string) =>
  new Problem(errorMessage(body) ?? `The server answered ${status}.`, status === 429 || status >= 500);

// A request that is given up by a signal, or where it has taken so long.
function fetchWithin(longest_s: number, path: string, { signal, ...init }: RequestInit = {}): Promise<Response> {
  const late = AbortSignal.timeout(1000 * longest_s);
  return fetch(path, { ...init, signal: signal ? AbortSignal.any([signal, late]) : late });
}

async function call<T>(path: string, init?: RequestInit, longest_s = QUICK_S): Promise<T> {
  try {
    const response = await fetchWithin(longest_s, path, init);
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    throw refusal(response.status, text);
  } catch (error) {
    throw asProblem(error, longest_s);
  }
}

const withBody = (body: object, signal: AbortSignal | null = null): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

function post<T>(path: string, body: object, signal?: AbortSignal, longest_s?: number): Promise<T> {
  return call<T>(path, withBody(body, signal), longest_s);
}
const get = <T>(path: string, signal?: AbortSignal) => call<T>(path, { signal: signal ?? null });

export const getIndex = (signal?: AbortSignal) =>
  exported ? exported.getIndex() : get<IndexInfo>("api/index", signal);
export const getStart = (signal?: AbortSignal) =>
  exported ? exported.getStart() : get<StartView>("api/start", signal);

export function getFeatures(search: Search, offset: number, limit: number, signal?: AbortSignal): Promise<FeatureList> {
  if (exported) return exported.getFeatures(search, offset, limit);
  const parameters = requestParameters(search);
  parameters.set("offset", String(offset));
  parameters.set("limit", String(limit));
  const longest_s = search.by === "text" ? WITH_MODEL_S : QUICK_S;
  return call<FeatureList>(`api/features?${parameters}`, { signal: signal ?? null }, longest_s);
}

export function getNumbers(search: Search, signal?: AbortSignal): Promise<FoundNumbers> {
  if (exported) return exported.getNumbers(search);
  return get<FoundNumbers>(`api/numbers?${requestParameters(search)}`, signal);
}

export const getFeature = (number: number, by: By = "top", signal?: AbortSignal): Promise<FeatureView> =>
  exported ? exported.getFeature(number) : get<FeatureView>(`api/features/${number}?by=${by}`, signal);

async function getPoints(signal?: AbortSignal): Promise<ArrayBuffer> {
  try {
    const response = await fetchWithin(QUICK_S, "api/map/points", { signal: signal ?? null });
    if (!response.ok) throw refusal(response.status, await response.text());
    return await response.arrayBuffer();
  } catch (error) {
    throw asProblem(error, QUICK_S);
  }
}

type WholeMap = { map: MapView; points: Points };
let knownMap: WholeMap | null = null; // up to tens of megabytes, and the same as long as the page is open

export const getMap = async (signal?: AbortSignal): Promise<WholeMap> => (knownMap ??= await fetchMap(signal));

async function fetchMap(signal?: AbortSignal): Promise<WholeMap> {
  const map = await (exported ? exported.getMap() : get<MapView>("api/map", signal));
  const bytes = await (exported ? exported.getPoints() : getPoints(signal));
  const n = map.n_features;
  const column = (place: number) => new Float32Array(bytes, 4 * n * place, n);
  return { map, points: { x: column(0), y: column(1), cluster: new Int32Array(bytes, 8 * n, n), density: column(3) } };
}

export const pictureAddress = (document: number, number: number) =>
  exported ? `data/picture-${document}-${number}.webp` : `api/pictures/${document}/${number}`;

export const getActivations = (number: number, text: string, signal: AbortSignal) =>
  post<ActivationsView>(`api/features/${number}/activations`, { text }, signal, WITH_MODEL_S);
export const readText = (text: string, unlike: string, on: RankBy, signal: AbortSignal) =>
  post<ReadingView>("api/read", { text, unlike, on }, signal, WITH_MODEL_S);
export const addLabel = (number: number, text: string) => post<LabelView>(`api/features/${number}/label`, { text });
export const addNote = (number: number, text: string) => post<string[]>(`api/features/${number}/note`, { text });
export const getDoses = (question: string, edits: Edit[], doses: number[], signal: AbortSignal) =>
  post<DoseView[]>("api/dose", { question, edits, doses }, signal, WITH_MODEL_S);
export const getPresets = () => get<Preset[]>("api/presets");
export const savePreset = (name: string, edits: string[]) => post<Preset[]>("api/presets", { name, edits });
export const removePreset = (name: string) =>
  call<Preset[]>(`api/presets/${encodeURIComponent(name)}`, { method: "DELETE" });

// The answer to a conversation, as it is written: `show` gets all of it so far. The likeliest tokens are taken, so that
// the same question has the same answer. The server stops writing where the signal ends the request.
export async function ask(
  messages: Message[], edits: Edit[], show: (answer: string) => void, signal: AbortSignal,
): Promise<void> {
  const body = { messages, edits, max_tokens: 100, temperature: 0, stream: true };
  try {
    const response = await fetchWithin(WITH_MODEL_S, "v1/chat/completions", withBody(body, signal));
    if (!response.ok) throw refusal(response.status, await response.text());
    for await (const answer of readAnswer(response.body!)) show(answer);
  } catch (error) {
    throw asProblem(error, WITH_MODEL_S);
  }
}
