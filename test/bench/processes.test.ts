/**
 * Goal: CPU and memory of processes are read from the system as they are, and the processes are found by
 * their ports.
 */
import { createServer, type Server } from 'node:net';
import { expect, test } from 'vitest';
import { listenersOf, processesByCommand, ProcessWatch } from '../../bench/measure/processes.ts';
import { rolesOf } from '../../bench/measure/roles.ts';
import { benchCommand, optionsOf } from '../../bench/options.ts';
import { freePort } from '../support/services.ts';

async function listening<T>(host: string, body: (port: number) => T): Promise<T> {
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  try {
    return body((server.address() as { port: number }).port);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

test("this process' CPU and memory", () => {
  const watch = new ProcessWatch([{ role: 'tests', pid: process.pid }]);
  const before = process.cpuUsage();
  const hold: Buffer[] = [];
  while (process.cpuUsage(before).user < 150_000) if (hold.length < 60) hold.push(Buffer.alloc(1 << 20, 1));
  watch.sample();
  const [figures] = watch.figures();
  const { user, system } = process.cpuUsage(before);
  // The system counts in ticks of 10 ms.
  expect(Math.abs((figures?.cpuSeconds ?? 0) - (user + system) / 1e6)).toBeLessThan(0.08);
  expect(figures?.rssBytesEnd).toBeGreaterThan(60 << 20);
  expect(figures?.rssBytesMax).toBeGreaterThanOrEqual(figures?.rssBytesEnd ?? 0);
  expect(watch.rssBytes((role) => role === 'tests')).toBe(figures?.rssBytesEnd);
  expect(watch.rssBytes((role) => role === 'others')).toBe(0);
});

test('a process that does not exist is left out', () => {
  const watch = new ProcessWatch([{ role: 'gone', pid: 2 ** 22 + 1 }]);
  watch.sample();
  expect(watch.figures()).toEqual([]);
});

test.each(['127.0.0.1', '::'])('who listens on a port of %s', async (host) => {
  const found = await listening(host, (port) => listenersOf([{ role: 'me', port }]));
  expect(found).toEqual([{ role: 'me', pid: process.pid }]);
});

test('nobody listens', async () => {
  expect(listenersOf([{ role: 'me', port: await freePort() }])).toEqual([]);
});

test('by the words of a command', () => {
  expect(processesByCommand('no-such-program', 'writer')).toEqual([]);
});

test('the roles of a run are found by the addresses it uses', async () => {
  const free = await freePort();
  const roles = await listening('127.0.0.1', (port) => {
    const command = benchCommand('bench', '');
    const elsewhere = ['--redis', `127.0.0.1:${free}`, '--clickhouse', `http://192.0.2.1:${port}`];
    command.parse(['--target', `127.0.0.1:${port}`, ...elsewhere], { from: 'user' });
    return rolesOf(optionsOf(command));
  });
  // A writer of somebody else may run on this machine.
  expect(roles.filter(({ role }) => role !== 'writer')).toEqual([{ role: 'gateway', pid: process.pid }]);
});
