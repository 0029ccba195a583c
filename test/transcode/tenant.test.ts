/**
 * Goal: with a tenant every row says whose it is, and nobody can say so in another's place; without one
 * nothing is different from before, rows of others stay on their shards, and the key by which rows are shared
 * out is still made of what is stored.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { type Block, type OpenBlocks, TENANT_ATTRIBUTE } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { tablesDifference } from '../oracle/compare.ts';
import { decode } from '../oracle/decode.ts';
import { encode, fullChaos, type PlainMessage } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { expectedRows } from '../oracle/rows.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import { shardByWeights, shardKeyOf } from '../oracle/shards.ts';
import {
  blocksDifference, ENGINES, type Engines, NESTING_MAX, openAllSignals, rowsOf, transcode,
} from '../support/otlp.ts';

const SEED = 20_261_127;

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

function appended(blocks: OpenBlocks, requests: readonly (readonly [Uint8Array, string?])[]): Block[] {
  for (const [request, tenant] of requests) blocks.append(request, tenant);
  return blocks.close().map((block) => ({ ...block, bytes: block.bytes.slice() }));
}

const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
const forged = text(TENANT_ATTRIBUTE, 'somebody else');
const service = text('service.name', 'shop');
const IDS = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2) };
const RECORDS: Readonly<Record<Signal, readonly PlainMessage[]>> = {
  traces: [IDS],
  logs: [{ body: { stringValue: 'b' } }],
  metrics: ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary']
    .map((kind) => ({ name: 'm', [kind]: { dataPoints: [{}] } })),
};

describe.each(SIGNALS)('%s', (signal) => {
  const requestWith = (attributes: readonly PlainMessage[]) =>
    encode(REQUESTS[signal], requestOf(signal, RECORDS[signal], { resource: { attributes } }));

  const LISTS: readonly (readonly [string, readonly PlainMessage[], readonly string[][]])[] = [
    ['no attributes', [], []],
    ['others', [service, text('a', 'b')], [['service.name', 'shop'], ['a', 'b']]],
    ['a forged one', [forged], []],
    ['forged ones among others', [forged, service, forged, text('a', 'b'), forged],
      [['service.name', 'shop'], ['a', 'b']]],
    ['a forged one of another type', [{ key: TENANT_ATTRIBUTE, value: { intValue: 7 } }, service],
      [['service.name', 'shop']]],
    ['a forged one without a value', [{ key: TENANT_ATTRIBUTE }], []],
    ['a forged one that is nested', [{ key: TENANT_ATTRIBUTE, value: { arrayValue: { values: [{}] } } }], []],
    ['keys that are nearly the same',
      [text('sluice.tenan', 'x'), text('sluice.tenants', 'y'), text('Sluice.tenant', 'z')],
      [['sluice.tenan', 'x'], ['sluice.tenants', 'y'], ['Sluice.tenant', 'z']]],
  ];
  test.each(LISTS)('%s: the tenant stands last, once, in every table', (_, attributes, kept) => {
    for (const engine of ENGINES) {
      const tables = rowsOf(appended(engines[signal][engine], [[requestWith(attributes), 'team-a']]));
      expect(tables.size).toBe(RECORDS[signal].length);
      for (const [row] of tables.values()) {
        expect(row?.['ResourceAttributes']).toEqual([...kept, [TENANT_ATTRIBUTE, 'team-a']]);
        expect(row?.['ServiceName']).toBe(kept.some(([key]) => key === 'service.name') ? 'shop' : '');
      }
    }
  });

  test('without a tenant nothing is left out, also after requests with one', () => {
    const request = requestWith([forged, service]);
    for (const engine of ENGINES) {
      const blocks = engines[signal][engine];
      appended(blocks, [[request, 'team-a']]);
      const without = appended(blocks, [[request]]);
      for (const [row] of rowsOf(without).values()) {
        const sent = [[TENANT_ATTRIBUTE, 'somebody else'], ['service.name', 'shop']];
        expect(row?.['ResourceAttributes']).toEqual(sent);
      }
      expect(blocksDifference(without, appended(blocks, [[request, '']]))).toBeUndefined();
    }
  });

  test('requests of several tenants in one block', () => {
    const request = requestWith([service]);
    const tenants = ['a', 'b', '', 'b', 'ü'.repeat(70), 'a'];
    for (const engine of ENGINES) {
      const tables = rowsOf(appended(engines[signal][engine], tenants.map((tenant) => [request, tenant])));
      for (const rows of tables.values()) {
        const named = rows.map((row) => (row['ResourceAttributes'] as readonly string[][])[1]?.[1] ?? '');
        expect(named).toEqual(tenants.map((tenant) => Buffer.from(tenant).toString('latin1')));
      }
    }
  });

  test('any request, in any form: as the oracle says, and the same bytes from both engines', () => {
    fc.assert(fc.property(requestArbitrary(signal), fc.nat(), (request, chaosSeed) => {
      const chaos = chaosSeed % 2 === 0 ? undefined : fullChaos(seededRandom(chaosSeed));
      const bytes = encode(REQUESTS[signal], request, chaos);
      const tenant = `tenant ${chaosSeed % 5}`;
      const good = encode(REQUESTS[signal], SAMPLES[signal]);
      const requests = [[bytes, tenant], [good], [bytes, tenant]] as const;
      const [plain, wasm] = ENGINES.map((engine) => appended(engines[signal][engine], requests));
      expect(blocksDifference(plain ?? [], wasm ?? [])).toBeUndefined();
      const alone = appended(engines[signal].wasm, [[bytes, tenant]]);
      const { rows } = expectedRows(signal, decode(REQUESTS[signal], bytes), NESTING_MAX, tenant);
      expect(tablesDifference(rows, rowsOf(alone))).toBeUndefined();
    }), { seed: SEED, numRuns: 80, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true });
  });

  test('shards: rows lie where the key of what is stored says, also those without a tenant', async () => {
    const weights = [1, 2, 1];
    const resources = Array.from({ length: 40 }, (_, i) => {
      return { resource: { attributes: [text('host', `h${i}`), forged] } };
    });
    const levels = { traces: 'resourceSpans', logs: 'resourceLogs', metrics: 'resourceMetrics' } as const;
    const all = resources.flatMap((around) => {
      const request: PlainMessage = requestOf(signal, RECORDS[signal], around);
      return request[levels[signal]] as PlainMessage[];
    });
    const request = encode(REQUESTS[signal], { [levels[signal]]: all });
    for (const engine of ENGINES) {
      const blocks = await createOpenBlocks(signal, engine, { nestingMax: NESTING_MAX });
      blocks.route(weights);
      const before = transcode(blocks, [request]).blocks;
      const made = appended(blocks, [[request, 'team-a']]);
      for (const block of [...before, ...made]) {
        for (const row of rowsOf([block]).get(block.table) ?? []) {
          expect(shardByWeights(weights, shardKeyOf(block.table, row))).toBe(block.shard);
        }
      }
      expect(blocksDifference(before, appended(blocks, [[request]]))).toBeUndefined();
    }
  });
});

test('what a request says of its tenant counts for the bounds, what is put in its place does not', () => {
  const within = {
    attributesMax: 2, valueBytesMax: 6, eventsMax: 0, linksMax: 0, timeMinMs: 0, timeMaxMs: 0,
    nesting: false, series: false,
  };
  const requestWith = (attributes: readonly PlainMessage[]) =>
    encode(REQUESTS.traces, requestOf('traces', [IDS], { resource: { attributes } }));
  const two = [text('a', 'b'), text('c', 'd')];
  for (const engine of ENGINES) {
    const blocks = engines.traces[engine];
    expect(blocks.appendWithin(requestWith(two), within, 'a long tenant')).toMatchObject({ accepted: 1 });
    const third = [...two, text(TENANT_ATTRIBUTE, 'x')];
    expect(blocks.appendWithin(requestWith(third), within, 't')).toBeUndefined();
    expect(blocks.appendWithin(requestWith([forged]), within, 't')).toBeUndefined();
    blocks.close();
  }
});
