/**
 * Goal: how many connections an address may have, at its edge, on every kind of port; and what a certificate's
 * names are read as.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { namesOf } from '../../src/receive/certificate.ts';
import { AddressBound } from '../../src/receive/connections.ts';
import {
  EXPORT, type Front, bareCall, bareSession, frame, head, metric, startFront, until, wire,
} from './support.ts';

describe('the bound of an address', () => {
  test('the last one is let in, the next is not, and nothing is remembered of who left', () => {
    const bound = new AddressBound(2);
    expect([1, 2, 3].map(() => bound.enter('10.0.0.1'))).toEqual([true, true, false]);
    expect(bound.enter('10.0.0.2')).toBe(true);
    bound.leave('10.0.0.1');
    expect(bound.enter('10.0.0.1')).toBe(true);
    for (const address of ['10.0.0.1', '10.0.0.1', '10.0.0.2']) bound.leave(address);
    expect(bound.size).toBe(0);
  });

  test('0 is any number, and nothing is remembered', () => {
    const bound = new AddressBound(0);
    for (let i = 0; i < 100; i++) expect(bound.enter('10.0.0.1')).toBe(true);
    expect(bound.size).toBe(0);
  });

  test.each([
    ['the same address', '10.0.0.1', '10.0.0.1', true],
    ['IPv4 as IPv6 shows it', '10.0.0.1', '::ffff:10.0.0.1', true],
    ['one network of IPv6', '2001:db8:1:2::1', '2001:db8:1:2:ffff::9', true],
    ['written out', '2001:db8::1', '2001:db8:0:0:1::1', true],
    ['with the zeros at the end', '2001:db8:1:2::', '2001:db8:1:2:3:4:5:6', true],
    ['with the zeros in front', '::1', '::2', true],
    ['two networks of IPv6', '2001:db8:1:2::1', '2001:db8:1:3::1', false],
    ['zeros within the network', '2001:db8::2:3:4:5:6', '2001:db8:0:2::1', true],
    ['two of IPv4', '10.0.0.1', '10.0.0.2', false],
  ])('%s', (_, one, other, same) => {
    const bound = new AddressBound(1);
    expect(bound.enter(one)).toBe(true);
    expect(bound.enter(other)).toBe(!same);
  });
});

describe('on the ports', () => {
  let front: Front;
  afterEach(() => front.close());

  test('HTTP: the next connection is closed and counted, until one is free', async () => {
    front = await startFront({ http: { connectionsPerAddressMax: 2 } });
    const [first, second] = [await wire(front.http.port), await wire(front.http.port)];
    await (await wire(front.http.port)).closed;
    expect(await metric(front, 'connections_refused_total', { transport: 'http', reason: 'address' })).toBe(1);
    first.socket.destroy();
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 1);
    const next = await wire(front.http.port);
    for (const { socket, text } of [second, next]) {
      socket.write(`${head('/v1/traces', { 'Content-Length': 1 })}x`);
      await until(() => text().startsWith('HTTP/1.1 200 '));
      socket.destroy();
    }
  });

  test('gRPC: the next connection is closed and counted, until one is free', async () => {
    front = await startFront({ grpc: { connectionsPerAddressMax: 1 } });
    const first = bareSession(front);
    await new Promise((known) => first.once('remoteSettings', known));
    await (await wire(front.grpc.port)).closed;
    expect(await metric(front, 'connections_refused_total', { transport: 'grpc', reason: 'address' })).toBe(1);
    const reply = await bareCall(first, EXPORT.traces, [frame(Buffer.from('x'))]);
    expect(reply.trailers['grpc-status']).toBe('0');
    first.destroy();
    await until(async () => (await metric(front, 'connections', { transport: 'grpc' })) === 0);
    const next = bareSession(front);
    await new Promise((known) => next.once('remoteSettings', known));
    next.destroy();
  });

  test('the bound of all connections is counted as such', async () => {
    front = await startFront({
      http: { connectionsMax: 1, connectionsPerAddressMax: 5 },
      grpc: { connectionsMax: 1 },
    });
    for (const [transport, port] of [['http', front.http.port], ['grpc', front.grpc.port]] as const) {
      const first = await wire(port);
      await (await wire(port)).closed;
      const labels = { transport, reason: 'connections' };
      expect(await metric(front, 'connections_refused_total', labels)).toBe(1);
      first.socket.destroy();
    }
  });
});

test.each([
  ['none', '', []],
  ['one of each', 'DNS:a.example, URI:spiffe://x/y, email:me@x.example', ['a.example', 'spiffe://x/y', 'me@x.example']],
  ['others are left out', 'IP Address:127.0.0.1, DNS:a, Registered ID:1.2.3', ['a']],
  ['one that is quoted', 'DNS:"a, DNS:b", DNS:c', ['a, DNS:b', 'c']],
  ['quotes within', 'URI:"http://x/\\"y\\u002c z"', ['http://x/"y, z']],
  ['a folder that looks like a name', 'DirName:"CN=x, DNS:evil", DNS:good', ['good']],
  ['what nobody understands', 'DNS:"open', []],
])('names of a certificate: %s', (_, text, names) => {
  expect(namesOf(text)).toEqual(names);
});
