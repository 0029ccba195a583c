/**
 * What the tests of OTLP/JSON share: conversion and decoding in one, and requests with one record of
 * interest.
 */
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import type { Signal } from '../../src/model/signal.ts';
import { jsonToProtobuf } from '../../src/transcode/json.ts';
import { decode, type Message } from '../oracle/decode.ts';

export const NESTING_MAX = 64;

export function convert(signal: Signal, json: string | Uint8Array): Message {
  const bytes = typeof json === 'string' ? Buffer.from(json) : json;
  return decode(REQUESTS[signal], jsonToProtobuf(signal, bytes, NESTING_MAX));
}

export function refusal(signal: Signal, json: string | Uint8Array): Malformed {
  try {
    convert(signal, json);
  } catch (error) {
    if (error instanceof Malformed) return error;
    throw error;
  }
  throw new Error(`was accepted: ${json}`);
}

/** The request whose one data point, span or record has these fields, and what is read from it. */
export const WRAPPED = {
  span: [
    'traces',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{#}]}]}]}',
    ['resourceSpans', 'scopeSpans', 'spans'],
  ],
  log: [
    'logs',
    '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{#}]}]}]}',
    ['resourceLogs', 'scopeLogs', 'logRecords'],
  ],
  point: [
    'metrics',
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"exponentialHistogram":{"dataPoints":[{#}]}}]}]}]}',
    ['resourceMetrics', 'scopeMetrics', 'metrics', 'exponentialHistogram', 'dataPoints'],
  ],
  histogram: [
    'metrics',
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{#}]}}]}]}]}',
    ['resourceMetrics', 'scopeMetrics', 'metrics', 'histogram', 'dataPoints'],
  ],
} as const;
export type Wrapping = keyof typeof WRAPPED;

export function wrap(kind: Wrapping, fields: string | Buffer): Buffer {
  const [before = '', after = ''] = WRAPPED[kind][1].split('#');
  return Buffer.concat([Buffer.from(before), Buffer.from(fields), Buffer.from(after)]);
}

export function fieldsOf(kind: Wrapping, fields: string | Buffer): unknown {
  let value: unknown = convert(WRAPPED[kind][0], wrap(kind, fields));
  for (const key of WRAPPED[kind][2]) {
    value = (value as Message)[key];
    if (Array.isArray(value)) value = value[0];
  }
  return value;
}

export function refusedFields(kind: Wrapping, fields: string): Malformed {
  return refusal(WRAPPED[kind][0], wrap(kind, fields));
}
