/** The entry for browsers: gRPC-Web over fetch. */
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { Client } from "./client.js";
import { Connection } from "./connection.js";
import { settingsFrom, type WebClientOptions } from "./options.js";
import { readableFetch } from "./trailers.js";

export * from "./common.js";

/**
 * Makes a client of a service; nothing is connected before the first call.
 *
 * @throws TypeError there is no address, or the key would cross a network in the clear.
 */
export function createClient(options: WebClientOptions = {}): Client {
  const { transport, fetch } = options;
  if (transport !== undefined) {
    return new Client(new Connection(transport, settingsFrom(options, undefined)));
  }
  const address = addressOf(options.baseUrl);
  const baseUrl = address.href.replace(/\/+$/, "");
  // Looked up at each call, so that a page may replace the global one.
  const used = readableFetch(fetch ?? ((input, init) => globalThis.fetch(input, init)));
  const made = createGrpcWebTransport({ baseUrl, useBinaryFormat: true, fetch: used });
  return new Client(new Connection(made, settingsFrom(options, address)));
}

function addressOf(baseUrl: string | undefined): URL {
  // The types say that every page has one; Node has none.
  const here = globalThis.location?.origin as string | undefined; // eslint-disable-line @typescript-eslint/no-unnecessary-condition -- Node has no location
  if (baseUrl === undefined && here === undefined) {
    throw new TypeError("an address is needed, such as baseUrl: 'http://127.0.0.1:9464'");
  }
  const address = new URL(baseUrl ?? "/", here);
  if (address.protocol !== "http:" && address.protocol !== "https:") {
    throw new TypeError(`baseUrl is http or https, not ${address.protocol}`);
  }
  return address;
}
