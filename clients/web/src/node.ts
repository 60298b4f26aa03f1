/** The entry for Node: gRPC over HTTP/2 to a target, or gRPC-Web to a base URL. */
import { readFileSync } from "node:fs";
import type { ClientHttp2Stream, IncomingHttpHeaders, SecureClientSessionOptions } from "node:http2";

import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";

import { Client } from "./client.js";
import { Connection } from "./connection.js";
import { settingsFrom, type WebClientOptions } from "./options.js";
import { isReadable } from "./trailers.js";
import { createClient as createWebClient } from "./web.js";

export * from "./common.js";

/** How a server is believed, and how the client shows itself; what is unset is left to Node. */
export interface TlsOptions {
  /** The roots to believe: a path, or PEM bytes. */
  ca?: string | Uint8Array;
  /** The client's certificate chain for mTLS: a path, or PEM bytes; needs key. */
  certificate?: string | Uint8Array;
  /** The client's private key: a path, or PEM bytes. */
  key?: string | Uint8Array;
  /** The name to expect in the server's certificate, when it is not the target's. */
  serverName?: string;
}

/** What a client in Node is made with: a target for gRPC, or a base URL for gRPC-Web. */
export interface NodeClientOptions extends WebClientOptions {
  /** "host:port" of the gRPC server. */
  target?: string;
  /** Speak TLS to the target; true takes the system's roots. */
  tls?: boolean | TlsOptions;
}

/** How long a connection is kept that no call uses, ms. It does not keep the process alive. */
const IDLE_MS = 300_000;

/**
 * Makes a client of a service; nothing is connected before the first call.
 *
 * @throws TypeError the address is missing or wrong, or the key would cross a network in the clear.
 */
export function createClient(options: NodeClientOptions): Client {
  const { target, tls = false } = options;
  if (target === undefined) {
    return createWebClient(options);
  }
  if (options.baseUrl !== undefined || options.transport !== undefined) {
    throw new TypeError("target, baseUrl and transport exclude each other");
  }
  if (!/^(\[[0-9a-fA-F:]+\]|[^\s/:@?#]+):\d+$/.test(target)) {
    throw new TypeError(`a target is host:port, such as "127.0.0.1:50051", not ${JSON.stringify(target)}`);
  }
  const address = new URL(`${tls === false ? "http" : "https"}://${target}`);
  const settings = settingsFrom(options, address);
  const sessionManager = new ReadableSessionManager(address.href, { idleConnectionTimeoutMs: IDLE_MS }, sessionOptions(tls));
  const transport = createGrpcTransport({ baseUrl: address.href.replace(/\/$/, ""), sessionManager });
  return new Client(new Connection(transport, settings), () => {
    sessionManager.abort();
  });
}

/** Takes unreadable status details out of trailers, as `readableFetch` does it for browsers. */
class ReadableSessionManager extends Http2SessionManager {
  override async request(...request: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...request);
    for (const event of ["response", "trailers"]) {
      stream.prependListener(event, (headers: IncomingHttpHeaders) => {
        const told = headers["grpc-status-details-bin"];
        if (typeof told === "string" && !isReadable(told)) {
          delete headers["grpc-status-details-bin"];
        }
      });
    }
    return stream;
  }
}

function sessionOptions(tls: boolean | TlsOptions): SecureClientSessionOptions {
  if (typeof tls === "boolean") {
    return {};
  }
  if ((tls.certificate === undefined) !== (tls.key === undefined)) {
    throw new TypeError("certificate and key come together");
  }
  return {
    ...(tls.ca === undefined ? {} : { ca: pem(tls.ca) }),
    ...(tls.certificate === undefined ? {} : { cert: pem(tls.certificate) }),
    ...(tls.key === undefined ? {} : { key: pem(tls.key) }),
    ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
  };
}

function pem(source: string | Uint8Array): Buffer {
  return typeof source === "string" ? readFileSync(source) : Buffer.from(source);
}
