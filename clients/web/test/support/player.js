/**
 * A server that plays what a test scripts, over gRPC and over gRPC-Web, from one set of handlers.
 *
 *     await using player = await play({ route: (request, context) => ({ answer: { text: "yes" } }) });
 *     const client = player.client();         // gRPC; player.webClient() is gRPC-Web
 */
import http from "node:http";
import http2 from "node:http2";

import { ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { OpsService, RouterService, createClient } from "@gearshift/client";

/**
 * @typedef {import("@connectrpc/connect").HandlerContext} Context
 * @typedef {Partial<import("@connectrpc/connect").ServiceImpl<typeof RouterService>>} RouterScripts
 * @typedef {Partial<import("@connectrpc/connect").ServiceImpl<typeof OpsService>>} OpsScripts
 */

/**
 * @param {RouterScripts} router
 * @param {OpsScripts} [ops]
 * @param {Pick<Map<string, any[]>, "get">} [pages] content type and bytes, by path
 */
export async function play(router, ops = {}, pages = new Map()) {
  const adapter = connectNodeAdapter({
    routes: (routes) => routes.service(RouterService, router).service(OpsService, ops),
    connect: false,
    fallback(request, response) {
      const [type, bytes] = pages.get(request.url ?? "") ?? [];
      response.writeHead(bytes === undefined ? 404 : 200, { "content-type": type ?? "text/plain" });
      response.end(bytes);
    },
  });
  const grpc = http2.createServer(adapter);
  const web = http.createServer(adapter);
  /** @type {Set<import("node:http2").ServerHttp2Session>} */
  const sessions = new Set();
  grpc.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  const [target, host] = [await listening(grpc), await listening(web)];
  /** @type {import("@gearshift/client").Client[]} */
  const clients = [];
  return {
    target,
    baseUrl: `http://${host}`,
    /** @param {Partial<Parameters<typeof createClient>[0]>} [options] */
    client(options = {}) {
      clients.push(createClient({ target, ...options }));
      return /** @type {import("@gearshift/client").Client} */ (clients.at(-1));
    },
    /** @param {Partial<Parameters<typeof createClient>[0]>} [options] */
    webClient(options = {}) {
      return createClient({ baseUrl: `http://${host}`, ...options });
    },
    /** Breaks every connection, as when the machine is lost. */
    cut() {
      sessions.forEach((session) => session.destroy());
      web.closeAllConnections();
    },
    async close() {
      clients.forEach((client) => client.close());
      sessions.forEach((session) => session.destroy());
      web.closeAllConnections();
      await Promise.all([grpc, web].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

/**
 * Runs a test on a player.
 *
 * @param {RouterScripts} router
 * @param {(player: Awaited<ReturnType<typeof play>>) => Promise<void>} run
 * @param {OpsScripts} [ops]
 * @param {Pick<Map<string, any[]>, "get">} [pages]
 */
export async function playing(router, run, ops, pages) {
  const player = await play(router, ops, pages);
  try {
    await run(player);
  } finally {
    await player.close();
  }
}

/**
 * Gives the error that ends a call with a status.
 *
 * @param {string} code gRPC's word for it
 * @param {string} message
 * @param {string} [detailsBin] base64 of a google.rpc.Status
 * @param {Record<string, string>} [metadata]
 */
export function status(code, message, detailsBin = "", metadata = {}) {
  const names = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"];
  const details = detailsBin === "" ? {} : { "grpc-status-details-bin": detailsBin };
  return new ConnectError(message, /** @type {import("@connectrpc/connect").Code} */ (names.indexOf(code)), { ...metadata, ...details });
}

/** @param {import("node:net").Server} server @returns {Promise<string>} */
function listening(server) {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? `${address.address}:${address.port}` : "");
    });
  });
}
