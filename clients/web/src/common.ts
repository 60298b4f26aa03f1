/** What both entries give: all but `createClient`. */
export { Accumulator } from "./accumulator.js";
export {
  call,
  streamPolicy,
  type CallOptions,
  type ComplexityName,
  type EffortName,
  type ExecuteContext,
  type ModeName,
  type PolicyOptions,
  type SensitivityName,
  type StreamOptions,
  type TaskTypeName,
} from "./calls.js";
export { Client, type CallInit, type EmbedSettings, type StreamSettings } from "./client.js";
export { digest } from "./digest.js";
export {
  GearshiftError,
  StreamProtocolError,
  type CodeName,
  type Detail,
  type KnownReason,
  type QuotaViolation,
  type Reason,
  type StreamRule,
  type Violation,
} from "./errors.js";
export {
  eventFrom,
  type AttemptEvent,
  type CheckpointEvent,
  type CompletedEvent,
  type DeltaEvent,
  type Event,
  type RetractEvent,
  type StartedEvent,
  type SwitchEvent,
  type UnknownEvent,
} from "./events.js";
export { assistant, conversation, image, imageUrl, tool, toolResult, user, type Json } from "./messages.js";
export {
  type AttemptChoice,
  type CacheChoice,
  type CacheName,
  type CachePage,
  type CostGroupName,
  type CostReportChoice,
  type OpsClient,
  type TrafficChoice,
} from "./ops.js";
export { type CallSettings, type CommonOptions, type RetryOptions, type WebClientOptions } from "./options.js";
export { accumulate, type EventSource, type Piece, type Retracted, type Snapshot } from "./snapshots.js";
export { type MessageStream, type RouteStream, type Stream } from "./streams.js";
export { wordOf, type WordEnum, type WordOf } from "./words.js";
export { timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";

export * from "./gen/gearshift/v1/answer_pb.js";
export * from "./gen/gearshift/v1/call_pb.js";
export * from "./gen/gearshift/v1/ops_pb.js";
export * from "./gen/gearshift/v1/router_pb.js";
export {
  CheckpointPolicy,
  EventSchema,
  type AttemptStarted,
  type Delta,
  type DeltaPart,
  type ToolCallFragment,
} from "./gen/gearshift/v1/stream_pb.js";
export * from "./gen/gearshift/v1/task_pb.js";
