/**
 * Claim: what a refused request costs the gateway: CPU of its process for each, beyond what it takes when it
 * is idle, over HTTP and gRPC, while Redis' queue is full (level 2) and when a tenant is beyond its rate. The
 * connections are kept, and none of them is ever without a request. Beside gRPC stands what node:http2 takes
 * for an answer without anything around it. Starts everything itself; -d is for how long each way,
 * --request-items how large the requests are.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { sleep, tickMs } from '../../src/base/clock.ts';
import { createCorpus } from '../corpus.ts';
import { windowOfToday } from '../identity.ts';
import { ProcessWatch } from '../measure/processes.ts';
import type { BenchOptions } from '../options.ts';
import type { Answer } from '../send/answer.ts';
import { GrpcConnection } from '../send/grpc.ts';
import { HttpSender } from '../send/http.ts';
import type { Sender, Target } from '../send/sender.ts';
import type { Template } from '../template.ts';
import { type Figure, runClaim } from './claim.ts';
import { type Own, owning, until, within } from './parts/own.ts';
import { ended } from './programs.ts';

const US_MAX = 50;
const REDIS_BYTES_MAX = 256 * 2 ** 20;
/** A usual request of an agent. */
const REQUEST_ITEMS = 20;
const CONNECTIONS = 64;
const WARM_SECONDS = 3;
const START_MS_MAX = 60_000;
const TENANT = 'bench';
const TENANTS = JSON.stringify([{ name: TENANT, itemsPerSecond: 1, burstSeconds: 1 }]);
const HEADER = 'x-tenant';
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

const WAYS = [
  ['level 2', { SLUICE_QUEUE_BYTES_MAX: '65536' }, {}],
  ['tenant_rate', { SLUICE_TENANTS: TENANTS, SLUICE_TENANTS_HEADER: HEADER }, { [HEADER]: TENANT }],
] as const;
const PROTOCOLS = ['http-protobuf', 'grpc'] as const;
type Protocol = (typeof PROTOCOLS)[number];

/** Who refuses. */
interface Refuser {
  readonly pid: number;
  readonly target: Target;
  readonly protocol: Protocol;
  readonly headers: Readonly<Record<string, string>>;
}

/** What came back. */
class Counts {
  refused = 0;
  other = 0;
  readonly codes = new Map<string, number>();
}

await runClaim({
  name: 'refusal',
  description: 'CPU of a gateway for each refused request; starts everything itself.',
  body: async (options) => {
    const figures: Figure[] = [];
    for (const [name, settings, headers] of WAYS) {
      await owning({ redisBytesMax: REDIS_BYTES_MAX, settings }, async (own) => {
        const { gateway } = own;
        for (const protocol of PROTOCOLS) {
          const target = protocol === 'grpc' ? gateway.grpcTarget : gateway.target;
          const refuser = { pid: gateway.pid, target, protocol, headers };
          figures.push(...(await refusals(refuser, options, `${name}, ${protocol}`, () => prepare(own, name))));
        }
      });
    }
    figures.push(...(await bare(options)));
    return figures;
  },
});

/** Nobody writes any more: what was accepted to fill the queue stays there. */
async function prepare({ gateway, writer }: Own, name: (typeof WAYS)[number][0]): Promise<void> {
  if (name !== 'level 2') return;
  if (writer.process.exitCode === null && writer.process.signalCode === null) await writer.kill();
  await until('level 2', START_MS_MAX, async () => (await gateway.metric('backpressure_level')) === 2);
}

/** node:http2 alone. */
async function bare(options: BenchOptions): Promise<Figure[]> {
  const program = join(import.meta.dirname, 'parts/bare-http2.ts');
  // As bin/sluice runs the gateway.
  const flags = ['--heap-growing-percent=200', '--disable-warning=ExperimentalWarning'];
  const child: ChildProcess = spawn(process.execPath, [...flags, program], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const { pid, stdout } = child;
    if (pid === undefined || stdout === null) throw new Error(`${program} can't be started`);
    const [port] = await within(program, START_MS_MAX, once(stdout.setEncoding('utf8'), 'data'));
    const target = { host: '127.0.0.1', port: Number(port) };
    return await refusals({ pid, target, protocol: 'grpc', headers: {} }, options, 'node:http2 alone', async () => {});
  } finally {
    await ended(child);
  }
}

/** @param ready resolves when everything that is sent is refused: while something is sent */
async function refusals(
  { pid, target, protocol, headers }: Refuser,
  options: BenchOptions,
  name: string,
  ready: () => Promise<void>,
): Promise<Figure[]> {
  const sending = { target, format: 'protobuf', compression: 'none', timeoutMs: options.timeoutMs, headers } as const;
  const corpus = { signal: 'traces', format: 'protobuf', seed: options.seed, run: 1 } as const;
  const requestItems = options.requestItems ?? REQUEST_ITEMS;
  const window = windowOfToday(Date.now());
  const templates = createCorpus({ ...corpus, requests: CONNECTIONS, requestItems, window });
  const senders = templates.map(() =>
    protocol === 'grpc' ? new GrpcConnection(sending).sender() : new HttpSender(sending),
  );
  try {
    let isReady = false;
    const filling = saturate(senders, templates, () => isReady);
    await ready().finally(() => {
      isReady = true;
    });
    await filling;
    await run(senders, templates, WARM_SECONDS);
    const idle = await cpuSeconds(pid, () => sleep(options.seconds * 1000));
    const fromMs = tickMs();
    let counts = new Counts();
    const busy = await cpuSeconds(pid, async () => {
      counts = await run(senders, templates, options.seconds);
    });
    const seconds = (tickMs() - fromMs) / 1000;
    const us = ((busy - (idle * seconds) / options.seconds) / counts.refused) * 1e6;
    process.stderr.write(`${name}: ${[...counts.codes].map(([code, count]) => `${count} × ${code}`).join(', ')}\n`);
    return [
      { ...NONE, name: `${name}: refused`, value: counts.refused / seconds, unit: 'requests/s' },
      { ...NONE, name: `${name}: anything else`, value: counts.other, unit: 'requests' },
      { ...NONE, name: `${name}: idle`, value: (idle / options.seconds) * 100, unit: '% of a core' },
      {
        ...NONE, name, value: us, unit: 'CPU us a request',
        must: protocol === 'http-protobuf' ? US_MAX : undefined,
      },
    ];
  } finally {
    for (const sender of senders) sender.close();
  }
}

async function cpuSeconds(pid: number, during: () => Promise<void>): Promise<number> {
  const watch = new ProcessWatch([{ role: 'refuser', pid }]);
  await during();
  watch.sample();
  return watch.figures()[0]?.cpuSeconds ?? Number.NaN;
}

function run(senders: readonly Sender[], templates: readonly Template[], seconds: number): Promise<Counts> {
  const untilMs = tickMs() + seconds * 1000;
  return saturate(senders, templates, () => tickMs() >= untilMs);
}

/** Each of them sends again as soon as it has an answer. */
async function saturate(
  senders: readonly Sender[], templates: readonly Template[], isOver: () => boolean,
): Promise<Counts> {
  const counts = new Counts();
  let request = 0;
  const keepSending = async (sender: Sender, template: Template) => {
    while (!isOver()) {
      template.stamp(++request);
      note(counts, await sender.send('traces', template.frame));
    }
  };
  await Promise.all(templates.map((template, i) => keepSending(senders[i] as Sender, template)));
  return counts;
}

function note(counts: Counts, answer: Answer): void {
  if (answer.kind === 'refused' && answer.retryable) counts.refused += 1;
  else counts.other += 1;
  counts.codes.set(answer.code, (counts.codes.get(answer.code) ?? 0) + 1);
}
