/**
 * Goal: every refusal of ClickHouse, and every broken way to it, becomes the Fault that its retry needs; the
 * table of codes carries ClickHouse's own names, and the page for operators says the same as the table.
 */
import { readFileSync } from 'node:fs';
import { ClickHouseError } from '@clickhouse/client';
import { describe, expect, test } from 'vitest';
import { Fault, type Retry } from '../../src/base/errors.ts';
import { ACTIONS, type Action, SERVER_CODES, classify, dividedTo } from '../../src/clickhouse/codes.ts';
import { useClickHouse } from '../support/services.ts';

const clickhouse = useClickHouse();

function serverError(code: number, message = 'words of the server'): ClickHouseError {
  return new ClickHouseError({ code: String(code), type: 'TYPE_OF_IT', message });
}

describe('the table', () => {
  test('has the names that the server has', async () => {
    const codes = [...SERVER_CODES.keys()];
    const rows = await clickhouse.rows<{ code: number; name: string }>(
      `SELECT arrayJoin([${codes.join(',')}]) AS code, errorCodeToName(code) AS name`);
    const ours = codes.map((code) => [code, SERVER_CODES.get(code)?.name]);
    expect(ours).toEqual(rows.map((row) => [row.code, row.name]));
  });

  const expected: readonly (readonly [Retry, readonly number[]])[] = [
    // Time, an operator or a migration mends it: the batch waits.
    ['here', [159, 173, 201, 241, 252, 285, 286, 394]],
    ['here', [16, 60, 81, 115, 164, 192, 193, 194, 195, 291, 452, 497, 516]],
    // Another replica of the shard may be better off.
    ['elsewhere', [198, 202, 203, 209, 210, 225, 236, 242, 243, 254, 279, 319, 364, 439, 745, 999]],
    // The bytes are at fault.
    ['never', [3, 6, 8, 26, 27, 32, 33, 41, 50, 53, 62, 70, 72, 117, 128, 131, 190, 271, 349, 469, 561]],
    // Not in the table.
    ['here', [1, 49, 389, 1001, 1002, 31337]],
  ];
  test.each(expected.flatMap(([retry, codes]) => codes.map((code) => [code, retry] as const)))(
    'code %i is retried %s', (code, retry) => {
      expect(classify(serverError(code), 'host:8123').retry).toBe(retry);
    });

  test('nothing of it is left out above', () => {
    const listed = new Set(expected.flatMap(([, codes]) => codes));
    expect([...SERVER_CODES.keys()].filter((code) => !listed.has(code))).toEqual([]);
  });
});

describe('the page', () => {
  const page = readFileSync(new URL('../../docs/clickhouse-answers.md', import.meta.url), 'utf8');

  test('has every code as the table has it, and no other', () => {
    const listed = [...page.matchAll(/^\| (\d+) \| `([A-Z_]+)` \| (\w+) \| (.+) \|$/gm)].map(
      ([, code, name, action, meaning]) => [Number(code), name, action, meaning]);
    const ours = [...SERVER_CODES].map(([code, { name, action, meaning }]) => [code, name, action, meaning]);
    expect(listed).toEqual(ours.sort(([one], [other]) => Number(one) - Number(other)));
  });

  test('says what each action is', () => {
    const [explained = ''] = /^\| done \|[\s\S]+?\n\n/m.exec(page) ?? [];
    const actions = [...explained.matchAll(/^\| ([a-z]+) \|/gm)].map(([, action]) => action);
    expect(actions).toEqual(['done', ...ACTIONS]);
  });

  test('names what only the text tells', () => {
    const faults = [
      classify(serverError(252, 'Too many partitions for single INSERT block (more than 100).'), 'host:8123'),
      classify(serverError(6, "Cannot parse string 'x': while pushing to view otel.v."), 'host:8123'),
    ];
    const actions = faults.map(({ code }) => new RegExp(`^\\|.*\\| \`${code}\` \\| (\\w+) \\|`, 'm').exec(page)?.[1]);
    expect(actions).toEqual(['split', 'whole']);
  });
});

describe('down to what a batch is divided', () => {
  const EXPECTED: Readonly<Record<Action, string | undefined>> = {
    here: undefined, elsewhere: undefined, wait: undefined, split: 'records', never: 'fragments', whole: undefined,
  };
  test.each([...SERVER_CODES])('code %i', (code, { action }) => {
    expect(dividedTo(classify(serverError(code), 'host:8123'))).toBe(EXPECTED[action]);
  });

  test.each<[string, Fault, string | undefined]>([
    ['partitions', classify(serverError(252, 'Too many partitions for single INSERT block'), 'host:8123'), 'records'],
    ['parts', classify(serverError(252, 'Too many parts (3000)'), 'host:8123'), undefined],
    ['a code that nobody knows', classify(serverError(31337), 'host:8123'), undefined],
    ['rows that are missing', new Fault('rows_missing', 'never', 'cut off'), undefined],
    ['bytes that Redis has lost', new Fault('batch_incomplete', 'never', '3 of 4'), undefined],
  ])('%s', (_, fault, expected) => {
    expect(dividedTo(fault)).toBe(expected);
  });
});

describe('what a view says', () => {
  const IN_VIEW = ': while executing \'FUNCTION f\': while pushing to view otel.v.';
  test.each([...SERVER_CODES].filter(([, { action }]) => action === 'split' || action === 'never'))(
    'code %i is not of the batch', (code) => {
      const fault = classify(serverError(code, `words${IN_VIEW}`), 'host:8123');
      expect([fault.code, fault.retry, dividedTo(fault)]).toEqual(['refused_by_view', 'never', undefined]);
    });

  test.each([60, 241, 252, 285])('code %i is what it is without a view', (code) => {
    expect(classify(serverError(code, `words${IN_VIEW}`), 'host:8123').code).toBe(SERVER_CODES.get(code)?.name);
  });

  test('it is found behind any number of words, as is too many partitions', () => {
    expect(classify(serverError(469, `${'x'.repeat(5_000)}${IN_VIEW}`), 'host:8123').code).toBe('refused_by_view');
    const partitions = `Too many partitions for single INSERT block (more than 4). ${'x'.repeat(700)}${IN_VIEW}`;
    expect(classify(serverError(252, partitions), 'host:8123').code).toBe('refused_by_view');
  });

  test.each([
    'Code: 6, e.displayText() = DB::Exception: Cannot parse: while pushing to view w.v, e.what() = DB::Exception',
  ])('an old server: %s', (text) => {
    expect(classify(new Error(text), 'host:8123').code).toBe('refused_by_view');
  });
});

describe('code 252', () => {
  test.each([
    ['Too many parts (3000) in all data parts in total.', 'TOO_MANY_PARTS', 'here'],
    ['Too many parts (301 with average size of 1 MiB). Merges are slow.', 'TOO_MANY_PARTS', 'here'],
    ['Too many inactive parts (1) in table', 'TOO_MANY_PARTS', 'here'],
    ['Too many partitions for single INSERT block (more than 100).', 'too_many_partitions', 'never'],
    ['Too many partitions for a single INSERT block (more than 100).', 'too_many_partitions', 'never'],
  ])('%s', (message, code, retry) => {
    expect(classify(serverError(252, message), 'host:8123')).toMatchObject({ code, retry });
  });
});

describe('what the client throws', () => {
  test('a Fault stays what it is', () => {
    const fault = new Fault('clickhouse_timeout', 'here', 'late');
    expect(classify(fault, 'host:8123')).toBe(fault);
  });

  test('a known code: its name, what it means, and the words of the server', () => {
    const fault = classify(serverError(60, "Table t.x doesn't exist. "), 'host:8123');
    expect(fault.code).toBe('UNKNOWN_TABLE');
    expect(fault.message).toBe('ClickHouse at host:8123: there is no such table, is the schema migrated?: '
      + "Table t.x doesn't exist. (code 60, UNKNOWN_TABLE)");
  });

  test('an unknown code keeps the name that the server gave it', () => {
    expect(classify(serverError(31337), 'host:8123')).toMatchObject({ code: 'TYPE_OF_IT', retry: 'here' });
  });

  test.each([
    ['Code: 60, e.displayText() = DB::Exception: No table t.x, e.what() = DB::Exception', 'UNKNOWN_TABLE'],
    ['Code: 242. DB::Exception: Table is in readonly mode. (version 18.16.1)', 'TABLE_IS_READ_ONLY'],
    ['Code: 31337. DB::Exception: from a future version', 'CODE_31337'],
  ])('the text of an old server: %s', (text, code) => {
    expect(classify(new Error(text), 'host:8123').code).toBe(code);
  });

  test.each([
    'ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH',
    'CERT_HAS_EXPIRED', 'ERR_STREAM_PREMATURE_CLOSE', 'HPE_INVALID_CONSTANT',
  ])('a broken connection: %s', (code) => {
    const fault = classify(Object.assign(new Error('socket hang up'), { code }), 'host:8123');
    expect(fault).toMatchObject({ code, retry: 'elsewhere' });
    expect(fault.message).toBe("ClickHouse at host:8123 can't be reached: socket hang up");
  });

  test('a name with two addresses that both refuse', () => {
    const errors = [new Error('connect ECONNREFUSED ::1'), new Error('connect ECONNREFUSED 127.0.0.1')];
    const error = Object.assign(new AggregateError(errors), { code: 'ECONNREFUSED' });
    expect(classify(error, 'localhost:8123').message).toMatch(/::1; connect ECONNREFUSED 127\.0\.0\.1$/);
  });

  test.each([['<html>502 Bad Gateway</html>'], ['']])('an answer without a code: "%s"', (text) => {
    expect(classify(new Error(text), 'host:8123')).toMatchObject({ code: 'clickhouse_answer_unknown', retry: 'here' });
  });

  test('something that is no error at all', () => {
    expect(classify('gone', 'host:8123')).toMatchObject({ code: 'clickhouse_answer_unknown', retry: 'here' });
  });

  test('words without end are cut', () => {
    expect(classify(serverError(117, 'x'.repeat(100_000)), 'host:8123').message.length).toBeLessThan(1000);
  });
});
