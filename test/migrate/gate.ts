/**
 * A small HTTP proxy before each ClickHouse host of a farm, through which a migrator in a process of its own
 * goes: it counts the statements that change something, over all hosts, and kills the process with SIGKILL
 * right before or right after the n-th was executed. From then on nothing of it gets through.
 */
import type { ChildProcess } from 'node:child_process';
import { type IncomingMessage, type ServerResponse, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FarmHost } from '../support/farm.ts';

export interface Gate {
  /** Settings that lead a migrator through it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Statements that were executed so far. */
  readonly statements: readonly string[];
  /** Kills the process at its n-th statement from now, from 1. */
  killAt(child: ChildProcess, number: number, when: 'before' | 'after'): void;
  /** Lets everything through again. */
  reset(): void;
  close(): void;
}

const CHANGES = /^\s*(CREATE|ALTER|DROP|RENAME|INSERT)\b/i;

export async function openGate(hosts: readonly FarmHost[]): Promise<Gate> {
  const statements: string[] = [];
  let seen = 0;
  let victim: { child: ChildProcess; number: number; when: 'before' | 'after' } | undefined;
  let dead = false;
  const kill = () => {
    dead = true;
    victim?.child.kill('SIGKILL');
  };

  const pass = async (host: FarmHost, incoming: IncomingMessage, answer: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const changes = CHANGES.test(body.toString());
    if (changes) seen += 1;
    const hit = changes && victim?.number === seen;
    if (hit && victim?.when === 'before') kill();
    if (dead) {
      answer.destroy();
      return;
    }
    const { method, url: path, headers } = incoming;
    const outgoing = request({ host: '127.0.0.1', port: host.httpPort, method, path, headers }, (from) => {
      const parts: Buffer[] = [];
      from.on('data', (part: Buffer) => parts.push(part));
      from.on('end', () => {
        if (changes) statements.push(body.toString());
        if (hit) kill();
        if (dead) answer.destroy();
        else answer.writeHead(from.statusCode ?? 500, from.headers).end(Buffer.concat(parts));
      });
    });
    outgoing.on('error', () => answer.destroy());
    outgoing.end(body);
  };

  const doors = await Promise.all(
    hosts.map(async (host) => {
      const server = createServer((incoming, answer) => {
        pass(host, incoming, answer).catch(() => answer.destroy());
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return { host, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
    }),
  );
  return {
    environment: {
      SLUICE_CLICKHOUSE_URL: doors.map(({ url }) => url).join(','),
      SLUICE_CLICKHOUSE_ADDRESSES: doors.map(({ host, url }) => `127.0.0.1:${host.tcpPort}=${url}`).join(','),
    },
    statements,
    killAt(child, number, when) {
      victim = { child, number: seen + number, when };
    },
    reset() {
      victim = undefined;
      dead = false;
      seen = 0;
      statements.length = 0;
    },
    close() {
      for (const { server } of doors) {
        server.closeAllConnections();
        server.close();
      }
    },
  };
}
