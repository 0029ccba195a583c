/**
 * Goal: a server that has no Keeper hasn't lost it, however slow it is to say so.
 */
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { Endpoint } from '../../src/topology/endpoint.ts';
import { silent, useClickHouse } from '../support/services.ts';
import { settingsOf } from '../support/settings.ts';

const clickhouse = useClickHouse();
const ABOUT_KEEPER = 'FROM system.zookeeper';

/** Passes questions on, but those about Keeper: they are answered when their client no longer waits. */
async function pass(incoming: IncomingMessage, answer: ServerResponse): Promise<boolean> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const isHeld = body.includes(ABOUT_KEEPER);
  if (isHeld) await once(answer, 'close');
  else {
    const passed = await fetch(`${clickhouse.url}${incoming.url}`, { method: 'POST', body });
    const text = Buffer.from(await passed.arrayBuffer());
    const exception = passed.headers.get('x-clickhouse-exception-code');
    if (exception !== null) answer.setHeader('x-clickhouse-exception-code', exception);
    answer.writeHead(passed.status).end(text);
  }
  return isHeld;
}

test('questions about Keeper that are not answered in time, and no Keeper', async () => {
  let held = 0;
  const proxy = createServer((incoming, answer) => {
    pass(incoming, answer).then(
      (isHeld) => {
        held += Number(isHeld);
      },
      () => answer.destroy(),
    );
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const endpoint = new Endpoint(`http://127.0.0.1:${port}`, settingsOf().clickhouse, silent);
  try {
    expect(await endpoint.ask()).toMatchObject({ reachable: true, facts: { keeper: { state: 'none' } } });
    expect(held).toBeGreaterThan(0);
  } finally {
    await endpoint.close();
    proxy.closeAllConnections();
    proxy.close();
  }
});
