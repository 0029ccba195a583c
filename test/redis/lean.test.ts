/**
 * Goal: the lean connection answers in order, hands bytes through unchanged, and whatever breaks (server,
 * network, credentials, time) ends in a Fault for everyone who waits and in a new connection, never in a hang
 * or a mixed-up reply.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { RedisEndpoint } from '../../src/redis/access.ts';
import { LeanConnection } from '../../src/redis/lean.ts';
import { Script } from '../../src/redis/scripts.ts';
import { CuttingProxy } from './proxy.ts';
import { RedisServer, connected, eventually, silent } from './server.ts';

let server: RedisServer;
let proxy: CuttingProxy;
const connections: LeanConnection[] = [];

beforeAll(async () => {
  server = await RedisServer.start();
  proxy = await CuttingProxy.start(server.port);
});
afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
  proxy.cutAnswersAfterBytes = Number.POSITIVE_INFINITY;
});
afterAll(async () => {
  await proxy.stop();
  await server.remove();
});

function create(endpoint: Partial<RedisEndpoint>, timeoutMs = 20_000): LeanConnection {
  const whole = { host: '127.0.0.1', port: server.port, tls: false, db: 0, ...endpoint };
  const connection = new LeanConnection({ endpoint: whole, timeoutMs, logger: silent });
  connections.push(connection);
  return connection;
}

async function connect(endpoint: Partial<RedisEndpoint> = {}, timeoutMs = 20_000): Promise<LeanConnection> {
  const connection = create(endpoint, timeoutMs);
  await connected(connection);
  return connection;
}

/** Cuts the proxied connection and waits for the next one. */
async function renew(connection: LeanConnection): Promise<void> {
  proxy.cut();
  await eventually(() => !connection.ready, 'the connection breaks');
  await eventually(() => connection.ready, 'a new connection');
}

async function gather(views: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const view of views) all.push(view);
  return Buffer.concat(all);
}

describe('commands', () => {
  it('are pipelined and answered in order', async () => {
    const connection = await connect();
    await connection.command(['DEL', 'n']);
    const replies = await Promise.all(Array.from({ length: 1_000 }, () => connection.command(['INCR', 'n'])));
    expect(replies).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1));
  });

  it('carry any bytes', async () => {
    const connection = await connect();
    for (const length of [0, 1, 2, 65_535, 65_536, 3_000_001]) {
      const payload = randomBytes(length);
      await connection.command(['DEL', 'list']);
      await connection.command(['RPUSH', 'list', payload, 'ä', payload]);
      const stored = await gather(connection.stream(['LRANGE', 'list', 0, -1]));
      expect(stored.equals(Buffer.concat([payload, Buffer.from('ä'), payload]))).toBe(true);
    }
  });

  it('reject alone when Redis refuses one', async () => {
    const connection = await connect();
    const [first, second, third] = await Promise.allSettled([
      connection.command(['PING']),
      connection.command(['NONSENSE']),
      connection.command(['PING']),
    ]);
    expect([first.status, third.status]).toEqual(['fulfilled', 'fulfilled']);
    expect(second).toMatchObject({ reason: { code: 'redis_error', retry: 'never' } });
  });

  it('reject with the codes of a read-only, a busy and a full Redis', async () => {
    const connection = await connect();
    await connection.command(['REPLICAOF', '127.0.0.1', 1]);
    await expect(connection.command(['INCR', 'n'])).rejects.toMatchObject({
      code: 'redis_unavailable',
      retry: 'here',
    });
    await connection.command(['REPLICAOF', 'NO', 'ONE']);

    await connection.command(['CONFIG', 'SET', 'busy-reply-threshold', 1]);
    const killer = await connect();
    const endless = connection.command(['EVAL', 'while true do end', 0]).catch((error) => error);
    await eventually(
      async () => (await killer.command(['PING']).catch((error) => error)).code !== undefined,
      'busy',
    );
    await expect(killer.command(['PING'])).rejects.toMatchObject({
      code: 'redis_unavailable',
      retry: 'here',
    });
    await killer.command(['SCRIPT', 'KILL']);
    expect(await endless).toMatchObject({ code: 'redis_error' });
    await connection.command(['CONFIG', 'SET', 'busy-reply-threshold', 5_000]);

    await connection.command(['CONFIG', 'SET', 'maxmemory', 1]);
    await expect(connection.command(['SET', 'a', 'b'])).rejects.toMatchObject({
      code: 'redis_full',
      retry: 'here',
    });
    await connection.command(['CONFIG', 'SET', 'maxmemory', 0]);
  });
});

describe('scripts', () => {
  it('are sent again after Redis forgot them, and run once', async () => {
    const connection = await connect();
    const script = new Script("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    await connection.command(['DEL', 'n']);
    expect(await script.run(connection, ['n'], [2])).toBe(2);
    await connection.command(['SCRIPT', 'FLUSH']);
    expect(await script.run(connection, ['n'], [3])).toBe(5);
  });

  it('reject with their own errors', async () => {
    const connection = await connect();
    const script = new Script("return redis.error_reply('OOM made up')");
    await expect(script.run(connection, [], [])).rejects.toMatchObject({ code: 'redis_full' });
  });
});

describe('credentials', () => {
  let guarded: RedisServer;
  beforeAll(async () => {
    guarded = await RedisServer.start('--requirepass', 'pw', '--user', 'ann', 'on', '>ann-pw', '~*', '+@all');
  });
  afterAll(() => guarded.remove());

  it.each([
    ['the default user', { password: 'pw' }, 'default'],
    ['a user', { username: 'ann', password: 'ann-pw' }, 'ann'],
  ])('%s is let in', async (_, credentials, user) => {
    const connection = await connect({ port: guarded.port, ...credentials, db: 4 });
    expect(await connection.command(['ACL', 'WHOAMI'])).toBe(user);
    expect(await connection.command(['CLIENT', 'INFO'])).toMatch(/ db=4 /);
  });

  it.each([
    ['none', {}],
    ['a wrong password', { password: 'no' }],
    ['a wrong user', { username: 'eve', password: 'pw' }],
  ])('%s: refused, and every command is', async (_, credentials) => {
    const connection = create({ port: guarded.port, ...credentials });
    await expect(connection.connect()).rejects.toMatchObject({ code: 'redis_auth', retry: 'never' });
    await expect(connection.command(['PING'])).rejects.toMatchObject({ code: 'redis_auth' });
  });
});

describe('TLS', () => {
  const pem = readFileSync(join(import.meta.dirname, 'localhost.pem'), 'utf8');
  let front: tls.Server;
  beforeAll(async () => {
    front = tls.createServer({ key: pem, cert: pem }, (client) => {
      const target = net.connect(server.port, '127.0.0.1');
      client.on('error', () => target.destroy());
      target.on('error', () => client.destroy());
      client.pipe(target).pipe(client);
    });
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
  });
  afterAll(() => front.close());

  it('refuses a certificate that nobody vouches for, and takes one that is trusted', async () => {
    const endpoint = { host: 'localhost', port: (front.address() as AddressInfo).port, tls: {} };
    await expect(create(endpoint).connect()).rejects.toMatchObject({ code: 'redis_unavailable' });
    const before = tls.getCACertificates('default');
    tls.setDefaultCACertificates([...before, pem]);
    try {
      const connection = await connect(endpoint);
      const payload = randomBytes(1_000_000);
      await connection.command(['DEL', 'list']);
      await connection.command(['RPUSH', 'list', payload]);
      expect((await gather(connection.stream(['LRANGE', 'list', 0, -1]))).equals(payload)).toBe(true);
    } finally {
      tls.setDefaultCACertificates(before);
    }
  });
});

describe('a connection that breaks', () => {
  it('is none when nobody listens, and commands are refused at once', async () => {
    const connection = create({ port: 1 });
    await expect(connection.connect()).rejects.toMatchObject({ code: 'redis_unavailable', retry: 'here' });
    await expect(connection.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
    await expect(gather(connection.stream(['LRANGE', 'x', 0, -1]))).rejects.toMatchObject({
      code: 'redis_unavailable',
    });
  });

  it('rejects what waits and comes back by itself', async () => {
    const connection = await connect({ port: proxy.port });
    server.signal('SIGSTOP');
    const waiting = Array.from({ length: 3 }, () =>
      connection.command(['PING']).catch((error) => error.code),
    );
    proxy.cut();
    expect(await Promise.all(waiting)).toEqual([
      'redis_unavailable',
      'redis_unavailable',
      'redis_unavailable',
    ]);
    expect(connection.ready).toBe(false);
    await expect(connection.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
    server.signal('SIGCONT');
    await eventually(() => connection.ready, 'a new connection');
    expect(await connection.command(['PING'])).toBe('PONG');
  });

  it('counts as broken when the answer takes too long', async () => {
    const connection = await connect({}, 500);
    server.signal('SIGSTOP');
    try {
      await expect(connection.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
      expect(connection.ready).toBe(false);
    } finally {
      server.signal('SIGCONT');
    }
    await eventually(() => connection.ready, 'a new connection');
  });

  it('does not count as broken when we were too busy to read the answer', async () => {
    const connection = await connect({}, 500);
    const until = performance.now() + 700;
    const answer = connection.command(['PING']);
    // Redis answers in turn: when this one has its answer, ours is there too.
    execFileSync('redis-cli', ['-p', String(server.port), 'PING']);
    while (performance.now() < until);
    expect(await answer).toBe('PONG');
  });

  it('at any byte of the answers ends in a Fault, and the next answers are right', async () => {
    const connection = await connect({ port: proxy.port });
    await connection.command(['DEL', 'list']);
    await connection.command(['RPUSH', 'list', 'one', 'two']);
    const whole = '+PONG\r\n*2\r\n$3\r\none\r\n$3\r\ntwo\r\n'.length;
    for (let cut = '+PONG\r\n'.length; cut < whole; cut++) {
      proxy.cutAnswersAfterBytes = cut;
      await renew(connection);
      const answer = connection.command(['LRANGE', 'list', 0, -1]);
      await expect(answer).rejects.toMatchObject({ code: 'redis_unavailable' });
    }
    proxy.cutAnswersAfterBytes = Number.POSITIVE_INFINITY;
    await renew(connection);
    expect(await connection.command(['LRANGE', 'list', 0, -1])).toEqual(['one', 'two']);
  });

  it('to something that is no Redis is given up', async () => {
    const other = net
      .createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
      .listen(0, '127.0.0.1');
    await once(other, 'listening');
    const connection = create({ port: (other.address() as AddressInfo).port });
    await expect(connection.connect()).rejects.toMatchObject({ code: 'redis_unavailable' });
    other.close();
  });

  it('stays closed after close', async () => {
    const connection = await connect();
    const waiting = connection.command(['PING']);
    connection.close();
    await expect(waiting).rejects.toMatchObject({ code: 'redis_unavailable' });
    await expect(connection.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
  });
});

describe('streams', () => {
  const ELEMENT = randomBytes(1_048_576);
  const ELEMENTS = 48;
  beforeAll(async () => {
    const connection = await connect();
    await connection.command(['DEL', 'big', 'none']);
    for (let i = 0; i < ELEMENTS; i++) await connection.command(['RPUSH', 'big', ELEMENT]);
  });

  it('are empty for a missing key', async () => {
    const connection = await connect();
    const stream = connection.stream(['LRANGE', 'none', 0, -1]);
    expect(await gather(stream)).toHaveLength(0);
    expect(stream.elements).toBe(0);
  });

  it('reject with the error of the reply', async () => {
    const connection = await connect();
    await connection.command(['SET', 'text', 'x']);
    await expect(gather(connection.stream(['LRANGE', 'text', 0, -1]))).rejects.toMatchObject({
      code: 'redis_error',
    });
    expect(await connection.command(['PING'])).toBe('PONG');
  });

  it('rest while nobody reads, for longer than an answer may take, and then go on', async () => {
    const slow = await CuttingProxy.start(server.port);
    const timeoutMs = 3_000;
    const connection = await connect({ port: slow.port }, timeoutMs);
    const stream = connection.stream(['LRANGE', 'big', 0, -1]);
    const first = await stream.next();
    let seen = -1;
    await eventually(async () => {
      const before = seen;
      seen = slow.answerBytes;
      await delay(200);
      return before === seen;
    }, 'the flow comes to rest');
    await delay(timeoutMs + 500);
    // What is on its way are the buffers of three sockets, each of a few MiB, and not the 48 MiB.
    expect(slow.answerBytes).toBeLessThan((ELEMENTS * ELEMENT.length) / 2);
    const rest = await gather(stream);
    expect(rest.length + first.value.length).toBe(ELEMENTS * ELEMENT.length);
    expect(stream.elements).toBe(ELEMENTS);
    expect(rest.subarray(-ELEMENT.length).equals(ELEMENT)).toBe(true);
    expect(await connection.command(['PING'])).toBe('PONG');
    await slow.stop();
  });

  it('that break in the middle reject after what came before', async () => {
    const connection = await connect({ port: proxy.port });
    proxy.cutAnswersAfterBytes = 5_000_000;
    await renew(connection);
    let bytes = 0;
    const reading = (async () => {
      for await (const view of connection.stream(['LRANGE', 'big', 0, -1])) bytes += view.length;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'redis_unavailable' });
    expect(bytes).toBeGreaterThan(4_000_000);
    expect(bytes).toBeLessThan(5_000_000);
  });

  it('that are left early cost the connection and nothing else', async () => {
    const connection = await connect();
    for await (const view of connection.stream(['LRANGE', 'big', 0, -1])) {
      expect(view.length).toBeGreaterThan(0);
      break;
    }
    expect(connection.ready).toBe(false);
    await eventually(() => connection.ready, 'a new connection');
    expect(await connection.command(['LLEN', 'big'])).toBe(ELEMENTS);
  });
});
