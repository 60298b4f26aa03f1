/**
 * Takes unreadable status details out of trailers, before Connect reads them.
 *
 * Rules: Connect makes DATA_LOSS of a status whose `grpc-status-details-bin` cannot be decoded; by the contract it then is
 * a status without details. Frames are those of gRPC-Web (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md):
 * a byte of flags, four of length; trailers have the highest flag. All else passes as it came.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { decodeBinaryHeader } from "@connectrpc/connect";

const DETAILS = "grpc-status-details-bin";
const TRAILERS = 0x80;
const HEAD = 5;

/** Whether the value of the header can be decoded; any message's fields can be read as those of an empty one. */
export function isReadable(detailsBin: string): boolean {
  try {
    fromBinary(EmptySchema, decodeBinaryHeader(detailsBin));
    return true;
  } catch {
    return false;
  }
}

/** Gives a fetch whose gRPC-Web responses hold no unreadable details. */
export function readableFetch(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    const headers = new Headers(response.headers);
    const told = headers.get(DETAILS);
    if (told !== null && !isReadable(told)) {
      headers.delete(DETAILS);
    }
    const body = response.body?.pipeThrough(readableFrames()) ?? null;
    return new Response(body, { status: response.status, statusText: response.statusText, headers });
  };
}

/** Passes frames on as they come, and trailers when they are whole. */
function readableFrames(): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  let held = new Uint8Array(0);
  let left = 0;
  return new TransformStream({
    transform(chunk, controller) {
      if (left >= chunk.length) {
        left -= chunk.length;
        controller.enqueue(chunk);
        return;
      }
      const data = joined(held, chunk);
      let at = left;
      left = 0;
      while (data.length - at >= HEAD) {
        const view = new DataView(data.buffer, data.byteOffset + at);
        const end = at + HEAD + view.getUint32(1);
        if ((view.getUint8(0) & TRAILERS) !== 0) {
          break;
        }
        left = Math.max(0, end - data.length);
        at = Math.min(end, data.length);
      }
      if (at > 0) {
        controller.enqueue(data.subarray(0, at));
      }
      held = data.subarray(at);
    },
    flush(controller) {
      controller.enqueue(held.length > HEAD ? readableTrailers(held) : held);
    },
  });
}

function readableTrailers(frame: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const lines = new TextDecoder().decode(frame.subarray(HEAD)).split("\r\n");
  const kept = lines.filter((line) => {
    const [name = "", value = ""] = line.split(/:(.*)/s);
    return name.trim().toLowerCase() !== DETAILS || isReadable(value.trim());
  });
  if (kept.length === lines.length) {
    return frame;
  }
  const text = new TextEncoder().encode(kept.join("\r\n"));
  const head = new Uint8Array(HEAD);
  head[0] = frame[0] ?? TRAILERS;
  new DataView(head.buffer).setUint32(1, text.length);
  return joined(head, text);
}

function joined(one: Uint8Array<ArrayBuffer>, other: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (one.length === 0) {
    return other;
  }
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
