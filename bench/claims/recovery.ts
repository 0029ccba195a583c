/**
 * Claim: how long it takes until others have taken over from what was killed with SIGKILL under load. A
 * gateway: how long no request of a client succeeded, which goes to the other gateway after a failure. A
 * writer and a ClickHouse replica: until everything is written that was sealed before, with inserts of the
 * killed one under way. The worst of three rounds. Starts everything itself.
 */
import { sleep, tickMs } from '../../src/base/clock.ts';
import { createCorpus } from '../corpus.ts';
import { windowOfToday } from '../identity.ts';
import { Installation, type Member } from '../installation.ts';
import type { BenchOptions } from '../options.ts';
import { HttpSender } from '../send/http.ts';
import { type Figure, runClaim } from './claim.ts';

const ROUNDS = 3;
const CLIENTS = 8;
const REQUEST_ITEMS = 10;
const REDIS_BYTES_MAX = 2 ** 30;
/** Between two requests of a client: what is measured is who takes over, not how fast a backlog is written. */
const PAUSE_MS = 20;
const SETTLE_MS = 3_000;
const WRITTEN_MS_MAX = 60_000;
const GATEWAY_MS_MAX = 1_000;
const WRITER_SECONDS_MAX = 10;
const NONE = { better: 'less', aim: undefined } as const;

await runClaim({
  name: 'recovery',
  description: 'A gateway, a writer and a ClickHouse replica are killed under load; starts everything itself.',
  body: async (options) => {
    const installation = await Installation.start({
      redisBytesMax: REDIS_BYTES_MAX,
      clickhouses: 2,
      gateways: 2,
      writers: 2,
      settings: { SLUICE_BATCH_AGE_MS_MAX: '500', SLUICE_LOG_LEVEL: 'error' },
    });
    const clients = startClients(installation, options);
    try {
      await sleep(SETTLE_MS);
      const gateway = await worst(() => killGateway(installation, clients));
      const writer = await worst(() => killWriter(installation));
      const replica = await worst(() => killReplica(installation));
      return [
        { ...NONE, name: 'killed gateway: no success', value: gateway, unit: 'ms', must: GATEWAY_MS_MAX },
        { ...NONE, name: 'killed writer: all written', value: writer, unit: 's', must: WRITER_SECONDS_MAX },
        { ...NONE, name: 'killed replica: all written', value: replica, unit: 's', must: WRITER_SECONDS_MAX },
      ] satisfies Figure[];
    } finally {
      await clients.stop();
      await installation.stop();
    }
  },
});

async function worst(round: () => Promise<number>): Promise<number> {
  let figure = 0;
  for (let i = 0; i < ROUNDS; i++) figure = Math.max(figure, await round());
  return figure;
}

interface Clients {
  /** The longest time that a client had no success, since this was asked last. */
  worstGapMs(): number;
  stop(): Promise<void>;
}

/** Each sends one request after another, to the same gateway as long as that works. */
function startClients({ gateways }: Installation, { timeoutMs, seed }: BenchOptions): Clients {
  const corpus = { signal: 'traces', format: 'protobuf', seed, run: 1, window: windowOfToday(Date.now()) } as const;
  const templates = createCorpus({ ...corpus, requests: CLIENTS, requestItems: REQUEST_ITEMS });
  const since = templates.map(() => tickMs());
  let gapMs = 0;
  let request = 0;
  let stopping = false;
  const note = (client: number) => {
    gapMs = Math.max(gapMs, tickMs() - (since[client] ?? 0));
  };
  const running = templates.map(async (template, client) => {
    for (let gateway = client; !stopping; gateway++) {
      const member = gateways[gateway % gateways.length] as Member;
      const options = { target: member.target, format: 'protobuf', compression: 'none', timeoutMs } as const;
      const sender = new HttpSender(options);
      for (let works = true; works && !stopping; await sleep(PAUSE_MS)) {
        template.stamp(++request);
        works = (await sender.send('traces', template.frame)).kind === 'acknowledged';
        if (!works) continue;
        note(client);
        since[client] = tickMs();
      }
      sender.close();
    }
  });
  return {
    worstGapMs() {
      for (const client of templates.keys()) note(client);
      const worstMs = gapMs;
      gapMs = 0;
      return worstMs;
    },
    async stop() {
      stopping = true;
      await Promise.all(running);
    },
  };
}

async function killGateway(installation: Installation, clients: Clients): Promise<number> {
  const [victim] = installation.gateways;
  clients.worstGapMs();
  await victim?.kill();
  await sleep(SETTLE_MS);
  const gapMs = clients.worstGapMs();
  installation.gateways.shift();
  await installation.addGateway();
  return gapMs;
}

/** While it waits for ClickHouse to answer its inserts, which is stopped for that moment. */
async function killWriter(installation: Installation): Promise<number> {
  const [victim, other] = installation.writers;
  if (victim === undefined || other === undefined) throw new Error('there are two');
  const pids = installation.clickhouses.map(({ pid }) => pid);
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  try {
    await untilInserting(victim);
    await victim.kill();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
  const seconds = await writtenAfter(installation, other);
  installation.writers.shift();
  await installation.addWriter();
  await sleep(SETTLE_MS);
  return seconds;
}

async function killReplica(installation: Installation): Promise<number> {
  const [victim] = installation.clickhouses;
  const [writer] = installation.writers;
  if (victim === undefined || writer === undefined) throw new Error('there is one');
  process.kill(victim.pid, 'SIGSTOP');
  await untilInserting(writer);
  await victim.kill();
  const seconds = await writtenAfter(installation, writer);
  await victim.start();
  await sleep(SETTLE_MS);
  return seconds;
}

async function untilInserting(writer: Member): Promise<void> {
  while ((await writer.metric('replica_inserts_in_flight')) === 0) await sleep(20);
}

async function writtenAfter(installation: Installation, writer: Member): Promise<number> {
  const tookMs = await installation.untilWritten(writer, WRITTEN_MS_MAX);
  if (tookMs === undefined) throw new Error(`batches are not written after ${WRITTEN_MS_MAX} ms`);
  return tookMs / 1000;
}
