/** The events of a streamed answer, each with its `kind`; the fields are those of the contract. */
import {
  type AttemptStarted,
  type Checkpoint,
  type Completed,
  type Delta,
  type Event as WireEvent,
  type Retract,
  type Started,
  type Switch,
} from "./gen/gearshift/v1/stream_pb.js";

/** Always first, once. */
export type StartedEvent = Readonly<{ kind: "started" } & Started>;
/** An upstream call begins. */
export type AttemptEvent = Readonly<{ kind: "attempt" } & AttemptStarted>;
/** New content; `text` and `reasoning` are those of its parts. */
export type DeltaEvent = Readonly<{ kind: "delta"; text: string; reasoning: string } & Delta>;
/** Nothing at or before `through` is ever taken back. */
export type CheckpointEvent = Readonly<{ kind: "checkpoint" } & Checkpoint>;
/** Every delta with a number greater than `after` is taken back. */
export type RetractEvent = Readonly<{ kind: "retract" } & Retract>;
/** Another attempt takes over; the old text stands until the retract. */
export type SwitchEvent = Readonly<{ kind: "switch" } & Switch>;
/** Always last, once. */
export type CompletedEvent = Readonly<{ kind: "completed" } & Completed>;
/** A kind of a later contract: pass it over. */
export type UnknownEvent = Readonly<{ kind: "unknown" }>;

/** One step of a streamed answer. */
export type Event =
  | StartedEvent
  | AttemptEvent
  | DeltaEvent
  | CheckpointEvent
  | RetractEvent
  | SwitchEvent
  | CompletedEvent
  | UnknownEvent;

/** Gives the event of a message. */
export function eventFrom({ kind }: WireEvent): Event {
  switch (kind.case) {
    case undefined:
      return { kind: "unknown" };
    case "delta":
      return { kind: "delta", ...kind.value, text: joined(kind.value, "text"), reasoning: joined(kind.value, "reasoning") };
    default:
      return { kind: kind.case, ...kind.value } as Event;
  }
}

function joined(delta: Delta, which: "text" | "reasoning"): string {
  return delta.parts.map(({ content }) => (content.case === which ? content.value : "")).join("");
}
