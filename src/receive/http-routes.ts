/**
 * Which requests over HTTP are OTLP's, and what the others are told (docs/otlp.md, rows 15 to 23). In: a
 * request as its library gives it (http-wire.ts), with its headers read. Out: an exchange that answers it.
 */
import { ENCODINGS, encodingOf } from '../compress/inflate.ts';
import { never } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { type Credentials, NO_CREDENTIALS } from '../model/tenant.ts';
import { type BodyFormat, CONTENT_TYPES, NO_CONTENT } from './answer.ts';
import type { Cors, Header } from './cors.ts';
import { HttpExchange, type HttpShared } from './http-exchange.ts';
import type { WireRequest, WireResponse } from './http-wire.ts';
import { type Admission, REQUEST_ID_HEADER, requestIdOf, sourceOf } from './ingest.ts';

const SIGNAL_OF_PATH: ReadonlyMap<string, Signal> = new Map(
  SIGNALS.map((signal) => [`/v1/${signal}`, signal]),
);
const PATHS = [...SIGNAL_OF_PATH.keys()].join(', ');

/** Any request, for a library without routes of its own. */
export function route(shared: HttpShared, cors: Cors, res: WireResponse, req: WireRequest): void {
  const signal = SIGNAL_OF_PATH.get(req.getUrl());
  if (signal === undefined) refusePath(shared, cors, res, req);
  else if (req.getCaseSensitiveMethod() === 'POST') receive(shared, cors, signal, res, req);
  else if (req.getCaseSensitiveMethod() === 'OPTIONS' && cors.enabled) answerPreflight(cors, res, req);
  else refuseMethod(shared, cors, signal, res, req);
}

/** A POST to where this signal is received. */
export function receive(
  shared: HttpShared,
  cors: Cors,
  signal: Signal,
  res: WireResponse,
  req: WireRequest,
): void {
  const exchange = exchangeOf(shared, cors, signal, res, req);
  const contentType = req.getHeader('content-type');
  const contentEncoding = req.getHeader('content-encoding');
  const encoding = encodingOf(contentEncoding);
  if (formatOf(contentType) === 'text') {
    const named = contentType === '' ? 'a request without Content-Type' : `the Content-Type ${contentType}`;
    const wanted = `use ${CONTENT_TYPES.protobuf} or ${CONTENT_TYPES.json}`;
    exchange.refuse(never('unsupported_content_type', `${named} is not supported: ${wanted}`));
  } else if (encoding === undefined) {
    const named = `the Content-Encoding ${contentEncoding}`;
    const wanted = `use ${ENCODINGS.join(', ')}`;
    exchange.refuse(never('unsupported_encoding', `${named} is not supported: ${wanted}`));
  } else {
    const named = shared.tracing ? requestIdOf(req.getHeader(REQUEST_ID_HEADER)) : undefined;
    const source = sourceOf(req.getHeader(shared.sourceHeader));
    exchange.accept(signal, credentialsOf(shared.door, req), encoding, source, named);
  }
}

export function refuseMethod(
  shared: HttpShared,
  cors: Cors,
  signal: Signal,
  res: WireResponse,
  req: WireRequest,
): void {
  const allow: Header = ['Allow', cors.enabled ? 'POST, OPTIONS' : 'POST'];
  const message = `${req.getCaseSensitiveMethod()} is not supported here: send requests with POST`;
  const exchange = exchangeOf(shared, cors, signal, res, req, allow);
  exchange.refuse({ kind: 'wrong', reason: 'wrong_method', message });
}

export function refusePath(shared: HttpShared, cors: Cors, res: WireResponse, req: WireRequest): void {
  const message = `there is nothing at ${req.getUrl()}: OTLP is received at ${PATHS}`;
  exchangeOf(shared, cors, 'none', res, req).refuse({ kind: 'wrong', reason: 'unknown_path', message });
}

export function answerPreflight(cors: Cors, res: WireResponse, req: WireRequest): void {
  const headers = cors.preflight(req.getHeader('origin'), req.getHeader('access-control-request-headers'));
  res.writeStatus(NO_CONTENT);
  for (const [name, value] of headers) res.writeHeader(name, value);
  // No content and no Content-Length, as RFC 9110 (8.6) has it for a 204.
  res.endWithoutBody();
}

function credentialsOf({ credentialHeaders }: Admission, req: WireRequest): Credentials {
  if (credentialHeaders === undefined) return NO_CREDENTIALS;
  return {
    authorization: req.getHeader(credentialHeaders.authorization),
    apiKey: req.getHeader(credentialHeaders.apiKey),
    tenant: credentialHeaders.tenant === '' ? '' : req.getHeader(credentialHeaders.tenant),
    certificate: req.certificate,
  };
}

function exchangeOf(
  shared: HttpShared,
  cors: Cors,
  signal: Signal | 'none',
  res: WireResponse,
  req: WireRequest,
  ...headers: readonly Header[]
): HttpExchange {
  return new HttpExchange(shared, res, {
    signal,
    format: formatOf(req.getHeader('content-type')),
    declaredBytes: declaredBytesOf(req),
    headers: cors.enabled ? [...headers, ...cors.headers(req.getHeader('origin'))] : headers,
    headOnly: req.getCaseSensitiveMethod() === 'HEAD',
  });
}

/** Media types are case-insensitive and may have parameters (RFC 9110, 8.3.1). */
function formatOf(contentType: string): BodyFormat {
  if (contentType === CONTENT_TYPES.protobuf) return 'protobuf';
  if (contentType === CONTENT_TYPES.json) return 'json';
  const name = contentType.split(';', 1)[0]?.trim().toLowerCase();
  if (name === CONTENT_TYPES.protobuf) return 'protobuf';
  return name === CONTENT_TYPES.json ? 'json' : 'text';
}

/**
 * Without either header there is no body (RFC 9112, 6.3). A length that is no number counts as none:
 * uWebSockets.js checks it only after this, refuses it with 400 and ends the connection; node before.
 */
function declaredBytesOf(req: WireRequest): number {
  const declared = Number(req.getHeader('content-length'));
  if (Number.isSafeInteger(declared) && declared > 0) return declared;
  return req.getHeader('transfer-encoding') === '' ? 0 : -1;
}
