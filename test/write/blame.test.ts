/**
 * Goal: a batch goes to the next replica whenever that one may do better, and only a fault that lies with a
 * replica is held against it.
 */
import { expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { SERVER_CODES, classify } from '../../src/clickhouse/codes.ts';
import { liesWithReplica, mayPassElsewhere } from '../../src/write/blame.ts';

const fault = (code: number) => classify(new Error(`Code: ${code}, words`), 'host:8123');
const judged = (it: Fault) => `${mayPassElsewhere(it)} ${liesWithReplica(it)}`;

test.each<[string, boolean, boolean, readonly number[]]>([
  ['the replica', true, true, [198, 202, 203, 209, 210, 225, 236, 242, 243, 279, 364, 439, 745, 999]],
  ['its users', true, true, [192, 193, 194, 195, 516]],
  ['its tables', true, false, [16, 60, 81, 164, 291, 497]],
  ['the shard', true, false, [254, 319]],
  // Every replica would say the same, or time has to pass: a quorum, parts, memory for this very batch.
  ['nobody', false, false, [115, 159, 173, 201, 241, 252, 285, 286, 394, 452]],
])('faults of %s', (_, elsewhere, replica, codes) => {
  expect(codes.map((code) => [code, judged(fault(code))])).toEqual(
    codes.map((code) => [code, `${elsewhere} ${replica}`]));
});

test('bytes that no server takes are no reason for another try', () => {
  const never = [...SERVER_CODES].filter(([, { action }]) => action === 'split' || action === 'never').map(([code]) => code);
  expect(never.filter((code) => mayPassElsewhere(fault(code)))).toEqual([]);
});

test('what did not come from a server', () => {
  const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  expect(judged(classify(refused, 'host:8123'))).toBe('true true');
  expect(judged(classify(new Error('<html>502 Bad Gateway</html>'), 'host:8123'))).toBe('true true');
  expect(judged(new Fault('clickhouse_timeout', 'here', 'late'))).toBe('true true');
  expect(judged(new Fault('stopping', 'here', 'stopping'))).toBe('false false');
});
