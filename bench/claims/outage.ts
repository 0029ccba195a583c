/**
 * Claim: ClickHouse is away for ten minutes at 20,000 spans/s, with a Redis of 2 GiB: clients are refused
 * nothing that they don't retry, and the backlog is gone within five minutes after its return, while the load
 * goes on. Starts everything itself; --away-seconds 60 for a short look. Takes 2 GiB of memory.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { sleep, tickMs } from '../../src/base/clock.ts';
import type { BenchReport } from '../bench.ts';
import { Installation, type Member } from '../installation.ts';
import { type Figure, runClaim } from './claim.ts';

const RATE = 20_000;
const REDIS_BYTES_MAX = 2 * 2 ** 30;
const AWAY_SECONDS = 600;
/** Of load before ClickHouse is killed. */
const BEFORE_SECONDS = 10;
const GONE_SECONDS_MAX = 300;
/** The backlog is gone when what waits is no older than that; before the outage it isn't either. */
const FRESH_SECONDS = 5;
/** OTLP/HTTP: clients send these again, and what got no answer. */
const RETRYABLE = /^(429|502|503|504)$/;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

interface Outage {
  readonly queueBytesMax: number;
  /** From the moment when ClickHouse answers again. */
  readonly firstInsertSeconds: number;
  readonly goneSeconds: number;
  readonly writtenPerSecond: number;
}

await runClaim({
  name: 'outage',
  description: 'ClickHouse is away for a while under load; starts everything itself.',
  extend: (command) =>
    command.option('--away-seconds <s>', 'how long', secondsOf, AWAY_SECONDS),
  body: async (options, measure, command: Command) => {
    const { awaySeconds } = command.opts<{ awaySeconds: number }>();
    const sizes = { redisBytesMax: REDIS_BYTES_MAX, clickhouses: 1, gateways: 1, writers: 1 };
    const installation = await Installation.start(sizes);
    try {
      const [server] = installation.clickhouses;
      const outage = breakOff(installation, awaySeconds);
      const report = measure({
        signals: ['traces'],
        protocol: 'http-protobuf',
        targets: installation.gateways.map(({ target }) => target),
        rate: options.rate ?? RATE,
        seconds: BEFORE_SECONDS + awaySeconds + Math.min(60, awaySeconds),
        waitMs: Math.max(options.waitMs, 2 * GONE_SECONDS_MAX * 1000),
        clickhouse: server?.url,
        pids: [],
        freshnessMs: 0,
      });
      // The one that fails ends the other's waiting too.
      const [figures, sent] = await Promise.all([outage, report]);
      return figuresOf(figures, sent);
    } finally {
      await installation.stop();
    }
  },
});

/** Kills ClickHouse, starts it again, and watches what the writer makes of it. */
async function breakOff({ clickhouses, writers }: Installation, awaySeconds: number): Promise<Outage> {
  const [server] = clickhouses;
  const [writer] = writers;
  if (server === undefined || writer === undefined) throw new Error('there is one of each');
  await sleep(BEFORE_SECONDS * 1000);
  await server.kill();
  let queueBytesMax = 0;
  const watch = async (over: () => Promise<boolean>, msMax: number) => {
    const fromMs = tickMs();
    while (!(await over()) && tickMs() - fromMs < msMax) {
      queueBytesMax = Math.max(queueBytesMax, await writer.metric('queue_bytes'));
      await sleep(100);
    }
    return (tickMs() - fromMs) / 1000;
  };
  await watch(async () => false, awaySeconds * 1000);
  const before = await writer.metric('items_written_total');
  await server.start();
  const limitMs = 2 * GONE_SECONDS_MAX * 1000;
  const firstInsertSeconds = await watch(async () => (await writer.metric('items_written_total')) > before, limitMs);
  const restSeconds = await watch(() => isFresh(writer), limitMs);
  const goneSeconds = firstInsertSeconds + restSeconds;
  const written = (await writer.metric('items_written_total')) - before;
  return { queueBytesMax, firstInsertSeconds, goneSeconds, writtenPerSecond: written / goneSeconds };
}

async function isFresh(writer: Member): Promise<boolean> {
  return (await writer.metric('queue_oldest_age_seconds')) < FRESH_SECONDS;
}

function figuresOf(outage: Outage, report: BenchReport): Figure[] {
  const answers = Object.entries(report.troubles);
  const count = (of: (code: string) => boolean) =>
    answers.reduce((sum, [code, trouble]) => sum + (of(code) ? trouble.count : 0), 0);
  const isAnswer = (code: string) => /^\d+$/.test(code);
  const isFinal = (code: string) => isAnswer(code) && !RETRYABLE.test(code);
  return [
    { ...NONE, name: 'acknowledged', value: report.itemsPerSecond, unit: 'spans/s' },
    { ...NONE, name: 'refused for good', value: count(isFinal), unit: 'answers', must: 0 },
    ...answers
      .filter(([code]) => RETRYABLE.test(code))
      .map(([code, trouble]) => ({ ...NONE, name: `refused for now, ${code}`, value: trouble.count, unit: 'answers' })),
    { ...NONE, name: 'without an answer', value: count((code) => !isAnswer(code)), unit: 'requests', aim: 0 },
    { ...NONE, name: 'acknowledged after', value: report.latencyMs.p99, unit: 'ms p99' },
    { ...NONE, name: 'queue at most', value: outage.queueBytesMax / 1e6, unit: 'MB' },
    { ...NONE, name: 'first insert after the return', value: outage.firstInsertSeconds, unit: 's', aim: 5 },
    { ...NONE, name: 'backlog gone', value: outage.goneSeconds, unit: 's', must: GONE_SECONDS_MAX },
    { ...NONE, name: 'written until then', value: outage.writtenPerSecond, unit: 'spans/s' },
  ];
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 1 && seconds <= 86_400)) throw new InvalidArgumentError('wanted is a number from 1 to 86400.');
  return seconds;
}
