/**
 * Goal: the source that a client names in the header of the settings arrives with its request over every
 * protocol; none, an empty one, or a long one refuses nothing.
 */
import { afterEach, expect, test } from 'vitest';
import {
  EXPORT,
  type Front,
  JS,
  PB,
  bareCall,
  bareSession,
  empty,
  frame,
  http,
  startFront,
} from './support.ts';

const HEADER = 'x-sluice-source';
let front: Front;

afterEach(async () => {
  await empty(front);
  await front.close();
});

/** The source that the ingest was given, over HTTP as protobuf and as JSON, and over gRPC. */
async function sourcesOf(headers: Record<string, string>): Promise<string[]> {
  await http(front, '/v1/logs', 'x', { 'content-type': PB, ...headers });
  await http(front, '/v1/logs', '{}', { 'content-type': JS, ...headers });
  const session = bareSession(front);
  const lowerCase = Object.fromEntries(Object.entries(headers).map(([name, v]) => [name.toLowerCase(), v]));
  await bareCall(session, EXPORT.logs, [frame(Buffer.from('x'))], lowerCase);
  session.close();
  return front.taken.map(({ source }) => source);
}

const a = (length: number) => 'a'.repeat(length);

test.each<[string, Record<string, string>, string]>([
  ['no header', {}, ''],
  ['an empty one', { [HEADER]: '' }, ''],
  ['one of blanks', { [HEADER]: '   ' }, ''],
  ['a name', { [HEADER]: 'team-a/batch jobs' }, 'team-a/batch jobs'],
  ['a header in upper case', { [HEADER.toUpperCase()]: 'Team-A' }, 'Team-A'],
  ['the longest', { [HEADER]: a(128) }, a(128)],
  ['one longer', { [HEADER]: `${a(128)}b` }, a(128)],
  ['much longer', { [HEADER]: a(8_000) }, a(128)],
  ['another header', { 'x-source': 'team-a' }, ''],
])('%s', async (_, headers, source) => {
  front = await startFront();
  expect(await sourcesOf(headers)).toEqual([source, source, source]);
});

test('blanks around it, which HTTP/2 has no place for', async () => {
  front = await startFront();
  await http(front, '/v1/logs', 'x', { 'content-type': PB, [HEADER]: ' \t team-a \t ' });
  expect(front.taken.map(({ source }) => source)).toEqual(['team-a']);
});

test('the header is the one of the settings', async () => {
  const other = { sourceHeader: 'x-scope-orgid' };
  front = await startFront({ http: other, grpc: other });
  expect(await sourcesOf({ 'x-scope-orgid': 'b', [HEADER]: 'a' })).toEqual(['b', 'b', 'b']);
});
