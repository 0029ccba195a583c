/**
 * Goal: a client that gives its answers no room to leave (a window of 0, RFC 9113, 6.9.2) loses its streams
 * after a while, and then its session; it holds up neither the neighbours nor the program's end.
 */
import { expect, test } from 'vitest';
import { frame } from '../support/clients.ts';
import { eventually } from '../support/services.ts';
import { END_STREAM, NOTHING, SETTINGS_ACK, TYPE, data, frameOf, h2, headers, settings } from './frames.ts';
import { useAttackedProgram } from './support.ts';

const KEEP_ALIVE_MS = 8_000;
const CALLS = 200;
/** Until the streams are given up, with some to spare; and then until the session is. */
const GIVEN_UP_MS_MAX = 20_000;
const ENDED_MS_MAX = 2 * KEEP_ALIVE_MS;

const attacked = useAttackedProgram({ SLUICE_RECEIVE_KEEP_ALIVE_MS: String(KEEP_ALIVE_MS) });
const { surviving, counting } = attacked;

test('a window of 0', { timeout: 60_000 }, () =>
  surviving(async () => {
    const connection = await h2(attacked.program.grpcPort, settings([4, 0]));
    await connection.write(SETTINGS_ACK);
    // Empty requests, which store nothing.
    const calls = Array.from({ length: CALLS }, (_, i) => 1 + 2 * i).map((stream) =>
      Buffer.concat([headers(stream), data(stream, frame(NOTHING), END_STREAM)]),
    );
    await counting('requests_total', { transport: 'grpc', code: '0' }, { least: CALLS }, () =>
      connection.write(Buffer.concat(calls)),
    );
    // Signs of life don't help.
    const ping = frameOf(TYPE.ping, 0, 0, Buffer.alloc(8));
    const alive = setInterval(() => connection.write(ping), 500);
    try {
      const last = 2 * CALLS - 1;
      await eventually('the last reset', () => connection.reset(last) !== undefined, GIVEN_UP_MS_MAX);
    } finally {
      clearInterval(alive);
    }
    await eventually('the end', connection.isClosed, ENDED_MS_MAX);
    expect(connection.frames().filter(({ type }) => type === TYPE.data)).toEqual([]);
  }),
);
