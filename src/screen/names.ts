/** What the first records of a request are called, for people. */
import type { Signal } from '../model/signal.ts';
import { STRING } from './shapes.ts';
import { MEMBER, MEMBER_AT, MEMBER_END, readAny } from './values.ts';
import { MALFORMED, UNUSUAL, eachField } from './wire.ts';

const NAME_BYTES_MAX = 80;

/** Of spans and metrics the name, of logs the event's name or the body; at most `max`. */
export function recordNames(signal: Signal, request: Uint8Array, max: number): string[] {
  const bytes = Buffer.from(request.buffer, request.byteOffset, request.length);
  const names: string[] = [];
  try {
    eachField(bytes, 0, bytes.length, (resource, _, from, to) => {
      if (resource !== 10) return;
      eachField(bytes, from, to, (scope, _field, start, end) => {
        if (scope !== 18) return;
        eachField(bytes, start, end, (record, _item, at, stop) => {
          if (record === 18 && names.length < max) names.push(nameOf(signal, bytes, at, stop));
        });
      });
    });
  } catch (error) {
    if (error !== MALFORMED && error !== UNUSUAL) throw error;
  }
  return names;
}

function nameOf(signal: Signal, bytes: Buffer, start: number, end: number): string {
  const nameTag = { traces: 42, metrics: 10, logs: 98 }[signal];
  let name = '';
  let body = '';
  eachField(bytes, start, end, (tag, _, at, to) => {
    if (tag === nameTag) name = bytes.toString('utf8', at, Math.min(to, at + NAME_BYTES_MAX));
    if (signal !== 'logs' || tag !== 42) return;
    readAny(bytes, at, to);
    if (MEMBER === STRING)
      body = bytes.toString('utf8', MEMBER_AT, Math.min(MEMBER_END, MEMBER_AT + NAME_BYTES_MAX));
  });
  return name || body || '(without a name)';
}
