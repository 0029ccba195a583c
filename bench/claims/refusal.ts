/**
 * Claim: what a refused request costs the gateway: CPU of its process for each, over HTTP and gRPC, while
 * Redis' queue is full (level 2) and when a tenant is beyond its rate. Starts everything itself; -d is for how
 * long each way, --request-items how large the requests are.
 */
import { Installation, type Member } from '../installation.ts';
import { ProcessWatch } from '../measure/processes.ts';
import type { BenchOptions } from '../options.ts';
import { type Figure, runClaim } from './claim.ts';
import { Offered } from './offered.ts';

const US_MAX = 50;
/** A usual request of an agent. */
const REQUEST_ITEMS = 20;
const CONNECTIONS = 64;
/** More than can be refused: the connections are never idle. */
const ITEMS_PER_SECOND = 20e6;
const FILL_SECONDS = 3;
const TENANT = 'bench';
const TENANTS = JSON.stringify([{ name: TENANT, itemsPerSecond: 1, burstSeconds: 1 }]);
const HEADER = 'x-tenant';

const WAYS = [
  ['level 2', { SLUICE_QUEUE_BYTES_MAX: '65536' }, {}],
  ['tenant_rate', { SLUICE_TENANTS: TENANTS, SLUICE_TENANTS_HEADER: HEADER }, { [HEADER]: TENANT }],
] as const;
const PROTOCOLS = ['http-protobuf', 'grpc'] as const;

await runClaim({
  name: 'refusal',
  description: 'CPU of a gateway for each refused request; starts everything itself.',
  body: async (options) => {
    const figures: Figure[] = [];
    for (const [name, settings, headers] of WAYS) {
      // Nobody writes: what was accepted to fill the queue stays there.
      const sizes = { redisBytesMax: 256 * 2 ** 20, clickhouses: 1, gateways: 1, writers: 1 };
      const installation = await Installation.start({ ...sizes, settings });
      try {
        const [gateway] = installation.gateways;
        const [writer] = installation.writers;
        if (gateway === undefined || writer === undefined) throw new Error('there is one');
        await writer.kill();
        for (const protocol of PROTOCOLS) {
          figures.push(...(await refusals(gateway, options, `${name}, ${protocol}`, protocol, headers)));
        }
      } finally {
        await installation.stop();
      }
    }
    return figures;
  },
});

async function refusals(
  gateway: Member,
  options: BenchOptions,
  name: string,
  protocol: (typeof PROTOCOLS)[number],
  headers: Readonly<Record<string, string>>,
): Promise<Figure[]> {
  const offered = new Offered({
    target: protocol === 'grpc' ? gateway.grpcTarget : gateway.target,
    protocol,
    connections: CONNECTIONS,
    requestItems: options.requestItems ?? REQUEST_ITEMS,
    seed: options.seed,
    timeoutMs: options.timeoutMs,
    honour: false,
    headers,
  });
  try {
    await offered.run(ITEMS_PER_SECOND, FILL_SECONDS);
    offered.take();
    const watch = new ProcessWatch([{ role: 'gateway', pid: gateway.pid }]);
    await offered.run(ITEMS_PER_SECOND, options.seconds);
    watch.sample();
    const { delayed, accepted, undelayed, final, unanswered } = offered.take();
    const [{ cpuSeconds } = { cpuSeconds: Number.NaN }] = watch.figures();
    const none = { better: 'less', must: undefined, aim: undefined } as const;
    return [
      { ...none, name: `${name}: refused`, value: delayed, unit: 'requests' },
      { ...none, name: `${name}: anything else`, value: accepted + undelayed + final + unanswered, unit: 'requests' },
      { ...none, name, value: (cpuSeconds / delayed) * 1e6, unit: 'CPU us a request', must: US_MAX },
    ];
  } finally {
    offered.close();
  }
}
