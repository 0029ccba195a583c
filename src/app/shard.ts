/** One server is one shard. With more of them each gets its own commits, jobs, sweep and books. */
export const SHARD = 0;
