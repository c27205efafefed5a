// Types that several files share: those that the server publishes, and a few of the page's own.
import type { components, operations } from "./wire";

type Wire = components["schemas"];
export type ActivationsView = Wire["ActivationsView"];
export type AskFeatures = NonNullable<operations["get_features_api_features_get"]["parameters"]["query"]>;
export type ClusterView = Wire["ClusterView"];
export type DensityBin = Wire["DensityBin"];
export type DoseView = Wire["DoseView"];
export type Edit = Wire["Edit"];
export type ExampleView = Wire["ExampleView"];
export type FeatureList = Wire["FeatureList"];
export type FeatureRow = Wire["FeatureRow"];
export type FeatureView = Wire["FeatureView"];
export type FoundNumbers = Wire["FoundNumbers"];
export type HitView = Wire["HitView"];
export type IndexInfo = Wire["IndexInfo"];
export type LabelView = Wire["LabelView"];
export type MapView = Wire["MapView"];
export type PictureView = Wire["PictureView"];
export type Preset = Wire["Preset"];
export type ReadingView = Wire["ReadingView"];
export type StartView = Wire["StartView"];

export type By = "top" | "interval" | "random"; // which examples of a feature
export type RankBy = Wire["AskReading"]["on"] & string; // which tokens of a text count
export type Message = { role: "system" | "user" | "assistant"; content: string };
export type Points = { x: Float32Array; y: Float32Array; cluster: Int32Array; density: Float32Array }; // [feature]
