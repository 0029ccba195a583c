/**
 * What an exchange needs of the library that speaks HTTP: the part of uWebSockets.js' interface that it uses.
 * uWebSockets.js fits as it is; http-node.ts makes the same of node's.
 *
 * Two rules of uWebSockets.js hold for both: a response is never touched after it was aborted or ended, and a
 * piece of a body is only valid during its callback.
 */
import type { ClientCertificate } from '../model/tenant.ts';

export interface WireResponse {
  /** The connection is gone before the answer was sent. */
  onAborted(handler: () => void): unknown;
  /** Without it the body is read and thrown away. `last` may come with a piece or with an empty one. */
  onData(handler: (piece: ArrayBuffer | Uint8Array, last: boolean) => void): unknown;
  /** What is written inside leaves together. */
  cork(write: () => void): unknown;
  /** Code and phrase; the first thing that is written. */
  writeStatus(status: string): WireResponse;
  writeHeader(name: string, value: string): WireResponse;
  end(body: Uint8Array | string, endConnection?: boolean): unknown;
  /** @param reportedLength the Content-Length, none where it is missing */
  endWithoutBody(reportedLength?: number, endConnection?: boolean): unknown;
}

export interface WireRequest {
  /** By its name in lower case; empty where it is missing. */
  getHeader(name: string): string;
  /** The path, without a query. */
  getUrl(): string;
  getCaseSensitiveMethod(): string;
  /** The client's, where there is TLS that asks for it. */
  readonly certificate?: ClientCertificate | undefined;
}
