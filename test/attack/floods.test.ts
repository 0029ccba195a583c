/**
 * Goal: nobody can take more connections than there are for all, or than an address may have; those beyond
 * are closed and counted, whoever was there before is served on, and places that are given up are free again.
 */
import { describe, expect, test } from 'vitest';
import { eventually } from '../support/services.ts';
import { PREFACE, settings } from './frames.ts';
import { type Raw, rawConnection, useAttackedProgram } from './support.ts';

/** More than two rounds of those that come and go: the server may not have seen yet that the last ones went. */
const CONNECTIONS_MAX = 100;
const PER_ADDRESS_MAX = 20;
/** The neighbour's own. */
const NEIGHBOURS = 4;
const FLOOD = 300;

const PORTS = [
  ['http', 'httpPort', Buffer.from('POST /v1/traces HTTP/1.1\r\n')],
  ['grpc', 'grpcPort', Buffer.concat([PREFACE, settings()])],
] as const;

const openOf = (all: readonly Raw[]) => all.filter((raw) => !raw.isClosed()).length;

/** Each opened, and with a word said. */
async function flood(port: number, from: (i: number) => string, hello: Buffer): Promise<Raw[]> {
  const opened = await Promise.all(
    Array.from({ length: FLOOD }, (_, i) => rawConnection(port, from(i)).catch(() => undefined)),
  );
  const raws = opened.filter((raw) => raw !== undefined);
  await Promise.all(raws.map((raw) => raw.write(hello)));
  return raws;
}

describe('from many addresses', () => {
  const attacked = useAttackedProgram({ SLUICE_RECEIVE_CONNECTIONS_MAX: String(CONNECTIONS_MAX) });
  const { surviving, counting } = attacked;
  /** The neighbour is there before; it doesn't come back while the flood lasts. */
  const from = (i: number) => `127.0.1.${1 + (i % 200)}`;

  test.each(PORTS)('%s: as many as may be, the others are closed and counted', async (transport, port, hello) => {
    const refused = { transport, reason: 'connections' };
    const own = attacked.program[port];
    await counting('connections_refused_total', refused, { least: FLOOD - CONNECTIONS_MAX }, async () => {
      const raws = await flood(own, from, hello);
      await eventually('the bound', () => openOf(raws) <= CONNECTIONS_MAX);
      expect(await attacked.program.metric('connections', { transport })).toBeLessThanOrEqual(CONNECTIONS_MAX);
      for (const raw of raws) raw.destroy();
    });
    await eventually('places', async () => (await attacked.program.metric('connections', { transport })) <= NEIGHBOURS);
    await surviving(async () => undefined);
  });

  test.each(PORTS)('%s: connections that come and go, half open or reset', async (_, port, hello) => {
    await surviving(async () => {
      for (let round = 0; round < 10; round++) {
        const raws = await Promise.all(
          Array.from({ length: 40 }, (_unused, i) => rawConnection(attacked.program[port], from(i))),
        );
        await Promise.all(raws.map((raw) => raw.write(hello)));
        for (const raw of raws.slice(0, 20)) raw.end();
        for (const raw of raws.slice(20)) raw.destroy();
        await eventually('the end of those that said so', () => openOf(raws) === 0);
      }
    });
  });
});

describe('from one address', () => {
  const attacked = useAttackedProgram({ SLUICE_RECEIVE_CONNECTIONS_PER_ADDRESS_MAX: String(PER_ADDRESS_MAX) });
  const { surviving, counting } = attacked;

  test.each(PORTS)('%s: its bound, while others come in as before', async (transport, port, hello) => {
    const refused = { transport, reason: 'address' };
    await counting('connections_refused_total', refused, { least: FLOOD - PER_ADDRESS_MAX }, () =>
      surviving(async () => {
        const raws = await flood(attacked.program[port], () => '127.0.2.1', hello);
        await eventually('the bound', () => openOf(raws) <= PER_ADDRESS_MAX);
        const elsewhere = await rawConnection(attacked.program[port], '127.0.2.2');
        await elsewhere.write(hello);
        expect(elsewhere.isClosed()).toBe(false);
        for (const raw of [...raws, elsewhere]) raw.destroy();
      }),
    );
    // Its places are free again.
    const back = await rawConnection(attacked.program[port], '127.0.2.1');
    await back.write(hello);
    expect(back.isClosed()).toBe(false);
    back.destroy();
  });
});
