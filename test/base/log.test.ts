/** Goal: of an error the log has its kind, words, place and code, and nothing else that hangs on it. */
import { expect, test } from 'vitest';
import { plainError } from '../../src/base/log.ts';

test('what hangs on an error is not logged, nor on what caused it', () => {
  const cause = Object.assign(new TypeError('WRONGPASS'), { command: { name: 'auth', args: ['hunter2'] } });
  const error = Object.assign(new Error('not connected', { cause }), { code: 'ECONNRESET', options: 'hunter2' });
  const plain = plainError(error);
  expect(plain).toEqual({
    type: 'Error',
    message: 'not connected',
    stack: error.stack,
    code: 'ECONNRESET',
    cause: { type: 'TypeError', message: 'WRONGPASS', stack: cause.stack },
  });
  expect(JSON.stringify(plain)).not.toContain('hunter2');
});

test.each([[undefined, 'undefined'], ['words', 'words'], [7, '7'], [{ password: 'hunter2' }, '[object Object]']])(
  'what is no error: %j',
  (thrown, expected) => {
    expect(plainError(thrown)).toBe(expected);
  },
);
