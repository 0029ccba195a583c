-- Replaces the routing, if it is still the one that the caller knows.
--
-- KEYS: 1 the routing
-- ARGV: 1 the generation that the caller knows, 0 for none; 2 the new routing, JSON
-- Answers 'published'; or 'overtaken' when another generation is there, and 'cluster', 'fewer' or 'moved' for
-- a routing that would leave batches without their shard: then nothing changes.

local new = cjson.decode(ARGV[2])
local stored = redis.call('GET', KEYS[1])
local old = stored and cjson.decode(stored) or { generation = 0, cluster = new.cluster, shards = {} }

if old.generation ~= tonumber(ARGV[1]) or new.generation ~= old.generation + 1 then return 'overtaken' end
if old.cluster ~= new.cluster then return 'cluster' end
if #new.shards < #old.shards then return 'fewer' end
for position, shard in ipairs(old.shards) do
  if shard.name ~= '' and shard.name ~= new.shards[position].name then return 'moved' end
end
redis.call('SET', KEYS[1], ARGV[2])
return 'published'
