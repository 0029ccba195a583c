/**
 * Parts that still wait for their quorum, seen from a replica that hasn't got them.
 *
 * Why they matter: a replica dies right after it has stored an insert that was to be on two. Keeper has the
 * token, so the other replica takes the retry for a repetition and, asked for no quorum, says that it is
 * done, without the rows. (With a quorum it would wait.) When Keeper has noticed that the first one is away,
 * the other one gives the part up: the token is free again, and the dead replica drops the part should it
 * return. So as long as there is such a part, an insert without a quorum proves nothing.
 * (ClickHouse: ReplicatedMergeTreeSink, StorageReplicatedMergeTree::executeFetch.)
 */
import { type ClickHouse, type ServerInfo, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';

interface ReplicatedTable {
  readonly zookeeper_path: string;
  readonly replica_name: string;
}

interface KeeperNode {
  readonly path: string;
  readonly value: string;
}

/**
 * The name of one part that some insert waits for, and that this replica hasn't got; undefined where there is
 * none. Of all tables of the database: an insert fills those of the table's views as well. Asked through the
 * replica's own session with Keeper, so it knows of all that an insert there has met before.
 * @throws Fault
 */
export async function awaitedPart(
  server: ClickHouse,
  info: ServerInfo,
  database: string,
): Promise<string | undefined> {
  const tables = await query<ReplicatedTable>(
    server,
    `SELECT zookeeper_path, replica_name FROM system.replicas WHERE database = ${literal(database)}`,
  );
  if (tables.length === 0) return undefined;
  const nodes = await quorumNodes(server, info, tables);
  for (const { zookeeper_path: root, replica_name: replica } of tables) {
    const here = nodes.filter(({ path }) => path.startsWith(`${root}/quorum`));
    const awaited = here.find(({ value }) => !has(value, replica));
    if (awaited !== undefined) return partOf(awaited.value);
  }
  return undefined;
}

/** Of inserts one at a time there is one node for each table, of parallel ones one for each part. */
async function quorumNodes(
  server: ClickHouse,
  info: ServerInfo,
  tables: readonly ReplicatedTable[],
): Promise<KeeperNode[]> {
  const roots = tables.map(({ zookeeper_path: root }) => `${root}/quorum`);
  const read = (where: string) =>
    query<KeeperNode>(server, `SELECT path, value FROM system.zookeeper WHERE ${where}`);
  if (info.hasSetting('insert_quorum_parallel')) {
    const paths = roots.flatMap((root) => [root, `${root}/parallel`]);
    const nodes = await read(`path IN (${paths.map(literal).join(', ')})`);
    return nodes.filter(({ value }) => partOf(value) !== undefined);
  }
  const found: KeeperNode[] = [];
  // Servers before 20.10 read one path at a time.
  for (const root of roots) found.push(...(await read(`path = ${literal(root)} AND name = 'status'`)));
  return found;
}

/** As ClickHouse' ReplicatedMergeTreeQuorumEntry writes it: "key: value", "replicas:", then one a line. */
function has(entry: string, replica: string): boolean {
  const [, replicas = ''] = entry.split('\nreplicas:\n');
  return replicas.split('\n').includes(replica);
}

function partOf(entry: string): string | undefined {
  return /^part_name: (.+)$/m.exec(entry)?.[1];
}
