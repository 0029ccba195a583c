/** Many writers at once, each killed at a step of its own with a batch in its hands. */
import type { Request, Role, Scene } from './scene.ts';
import type { Stop } from './stop.ts';

/** Where each stops, by its name. */
export type Deaths = Readonly<Record<string, (writer: Role) => Stop | undefined>>;

/** One at a time: who stands still takes nothing else. */
const ONE_INSERT = { SLUICE_WRITE_INSERTS_IN_FLIGHT_MAX: '1' };

/**
 * Resolves when each stood at its step with a batch of `feed`, and all are dead. Who finds a batch takes it:
 * so they are fed one after another.
 * @param feed makes one batch. @returns what each had taken
 */
export async function dieThere(
  scene: Scene,
  deaths: Deaths,
  feed: () => Promise<readonly Request[]>,
): Promise<ReadonlyMap<string, readonly Request[]>> {
  const victims = await Promise.all(Object.keys(deaths).map(() => scene.writer(ONE_INSERT)));
  const idle = new Map(Object.entries(deaths).map(([name, at], i) => [name, at(victims[i] as Role)]));
  const left = new Map<string, readonly Request[]>();
  while (idle.size > 0) {
    const requests = await feed();
    const taken = await Promise.race([...idle].map(([name, stop]) => stop?.reached().then(() => name)));
    if (taken === undefined) throw new Error('a writer without a ClickHouse');
    idle.delete(taken);
    left.set(taken, requests);
  }
  await Promise.all(victims.map((victim) => victim.kill()));
  return left;
}
