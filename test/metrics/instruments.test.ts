/** Goal: docs/metrics.md and the list of instruments agree, both ways, labels included; and rates are means of full seconds. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { Rate } from '../../src/metrics/rate.ts';

function documented(): Map<string, string> {
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  return new Map(
    [...page.matchAll(/^\| `(\w+)` \| ([\w, ]+|–) \|/gm)].map(([, name = '', labels = '']) => [
      name,
      labels.replace('–', ''),
    ]),
  );
}

test('every instrument is documented with its labels, and nothing else is', () => {
  const { registry, ...rest } = createInstruments();
  const coded = Object.values(rest).map((instrument) => {
    const { name, labelNames } = instrument as unknown as { name: string; labelNames: string[] };
    return [name.replace(/^sluice_/, ''), labelNames.join(', ')] as const;
  });
  expect([...documented()].sort()).toEqual(coded.map(([name, labels]) => [name, labels]).sort());
  expect(registry.getMetricsAsArray().length).toBeGreaterThan(coded.length);
});

test('a rate is the mean of the last ten full seconds', () => {
  const rate = new Rate();
  for (let second = 100; second < 120; second++) rate.add(50, second);
  expect(rate.perSecond(120)).toBe(50);
  rate.add(1_000_000, 120);
  expect(rate.perSecond(120)).toBe(50);
  expect(rate.perSecond(125)).toBe((5 * 50 + 1_000_000) / 10);
  expect(rate.perSecond(131)).toBe(0);
});
