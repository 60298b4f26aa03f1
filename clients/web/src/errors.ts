/**
 * What goes wrong in a call, as a caller sees it.
 *
 * Rules: one class for every failed call; branch on `code` and `reason`, never on a text. Nothing of Connect shows.
 */
import { ConnectError, Code as ConnectCode } from "@connectrpc/connect";

import { AttemptSchema, CompletionSchema, type Attempt } from "./gen/gearshift/v1/answer_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

/** How a call ended; numbers and meanings are gRPC's (https://grpc.io/docs/guides/status-codes/). */
const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** Connect's words for what went wrong here, without a status from the server. */
const LOCAL: readonly ConnectCode[] = [ConnectCode.Unknown, ConnectCode.Aborted, ConnectCode.Internal];
/** How many causes of a cause are looked at. */
const CAUSES = 5;

/** One of gRPC's status codes, in its own words. */
export type CodeName = (typeof CODES)[number];

/** The stable words of the service; the contract's page says which codes they come with. */
export type KnownReason =
  | "INVALID_REQUEST"
  | "UNKNOWN_TASK"
  | "PROMPT_NOT_CACHED"
  | "NO_STAGE"
  | "CONFIG"
  | "RATE_LIMITED"
  | "CHAIN_EXHAUSTED"
  | "LEDGER"
  | "CACHE_STORE"
  | "EMBEDDED_MODEL"
  | "NOT_ACCEPTED"
  | "DEADLINE"
  | "UNAUTHENTICATED"
  | "FORBIDDEN";

/** A reason that is known, or a word of a later contract; "" when the server gave none. */
export type Reason = KnownReason | (string & {});

/** A field that the server refused, and why. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** A limit that was spent: whose, and which. */
export interface QuotaViolation {
  readonly subject: string;
  readonly description: string;
}

/** One detail of a status as it came: the full name of its message type, and its bytes. */
export interface Detail {
  readonly typeName: string;
  readonly value: Uint8Array;
}

/** What a status tells beside its code; what was not sent is empty. */
export interface StatusDetails {
  readonly reason?: Reason;
  readonly domain?: string;
  readonly info?: Readonly<Record<string, string>>;
  readonly retryAfter?: number;
  readonly violations?: readonly Violation[];
  readonly quota?: readonly QuotaViolation[];
  readonly attempts?: readonly Attempt[];
  readonly details?: readonly Detail[];
  readonly cause?: unknown;
}

/** Thrown when a call failed, wherever it failed. */
export class GearshiftError extends Error {
  override readonly name = "GearshiftError";
  /** How it ended. */
  readonly code: CodeName;
  /** What the server says, or what happened here; for people, not for programs. */
  readonly description: string;
  /** One stable word (ErrorInfo), such as "PROMPT_NOT_CACHED"; empty when the server gave none. */
  readonly reason: Reason;
  /** Who gave the reason; "gearshift" for the service itself. */
  readonly domain: string;
  /** The further facts of ErrorInfo. */
  readonly info: Readonly<Record<string, string>>;
  /** Seconds to wait before another try (RetryInfo); 0 when the server named none. */
  readonly retryAfter: number;
  /** The fields that were refused. */
  readonly violations: readonly Violation[];
  /** The limits that were spent. */
  readonly quota: readonly QuotaViolation[];
  /** The upstream calls that were made. */
  readonly attempts: readonly Attempt[];
  /** Everything as it came. */
  readonly details: readonly Detail[];

  constructor(code: CodeName, description: string, details: StatusDetails = {}) {
    const reason = details.reason ?? "";
    super(`${code}${reason === "" ? "" : ` (${reason})`}: ${description}`, { cause: details.cause });
    this.code = code;
    this.description = description;
    this.reason = reason;
    this.domain = details.domain ?? "";
    this.info = details.info ?? {};
    this.retryAfter = details.retryAfter ?? 0;
    this.violations = details.violations ?? [];
    this.quota = details.quota ?? [];
    this.attempts = details.attempts ?? [];
    this.details = details.details ?? [];
  }
}

/** What of the event contract can be broken; tests/conformance/README.md of the project says what each word means. */
export type StreamRule =
  | "after_completed"
  | "started_twice"
  | "before_started"
  | "attempt_not_rising"
  | "number_not_rising"
  | "checkpoint_not_rising"
  | "checkpoint_not_live"
  | "retract_behind_checkpoint"
  | "retract_not_live"
  | "incomplete"
  | "status_missing"
  | "digest_mismatch";

/** Thrown when the events of a stream break the contract, so that its text cannot be trusted. */
export class StreamProtocolError extends Error {
  override readonly name = "StreamProtocolError";

  constructor(
    /** One stable word for what was broken. */
    readonly rule: StreamRule,
    message: string,
  ) {
    super(message);
  }
}

/** Gives our error for whatever a call threw; one of ours stays what it is. */
export function errorFrom(thrown: unknown): GearshiftError {
  if (thrown instanceof GearshiftError) {
    return thrown;
  }
  const error = ConnectError.from(thrown);
  return new GearshiftError((CODES as readonly CodeName[])[codeOf(error)] ?? "UNKNOWN", error.rawMessage, { ...detailsOf(error), cause: error });
}

/**
 * Gives the code of a call that failed without having been cancelled here: UNAVAILABLE, as for gRPC, when no status came
 * because nobody answered or the connection broke.
 */
export function codeOf(error: ConnectError): ConnectCode {
  return error.metadata.has("grpc-status") || !isLost(error) ? error.code : ConnectCode.Unavailable;
}

/** Whether it tells of a lost connection: Node resets the streams of one, or gives an error of the system's; fetch a TypeError. */
function isLost({ code, cause }: ConnectError): boolean {
  if (code === ConnectCode.Canceled) {
    return true;
  }
  let found = LOCAL.includes(code) ? cause : undefined;
  for (let depth = 0; found instanceof Error && depth < CAUSES; depth++) {
    if (found instanceof TypeError || ("code" in found && typeof found.code === "string")) {
      return true;
    }
    found = found.cause;
  }
  return false;
}

function detailsOf(error: ConnectError): StatusDetails {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const delay = retry?.retryDelay;
  return {
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    info: info?.metadata ?? {},
    retryAfter: delay === undefined ? 0 : Math.max(0, Number(delay.seconds) + delay.nanos / 1e9),
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap((refused) => refused.fieldViolations.map(({ field, description }) => ({ field, description }))),
    quota: error
      .findDetails(QuotaFailureSchema)
      .flatMap((spent) => spent.violations.map(({ subject, description }) => ({ subject, description }))),
    attempts: [
      ...error.findDetails(AttemptSchema),
      ...error.findDetails(CompletionSchema).flatMap((completion) => completion.attempts),
    ],
    details: error.details.flatMap((detail) =>
      "type" in detail && detail.value instanceof Uint8Array ? [{ typeName: detail.type, value: detail.value }] : [],
    ),
  };
}
