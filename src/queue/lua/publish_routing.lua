-- Replaces the routing, if it is still the one that the caller knows. The ones before it stay in mind, since
-- rows of a request that was stored in part lie where the routing of that time had placed them.
--
-- KEYS: 1 the routing
-- ARGV: 1 the generation that the caller knows, 0 for none; 2 the new routing, JSON; 3 how many are kept in
--       mind
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

if old.generation > 0 then
  local weights = {}
  for position, shard in ipairs(old.shards) do weights[position] = shard.weight end
  local time = redis.call('TIME')
  local before = { { generation = old.generation, weights = weights, untilMs = time[1] * 1000 } }
  for _, earlier in ipairs(old.before or {}) do
    if #before < tonumber(ARGV[3]) then before[#before + 1] = earlier end
  end
  new.before = before
end
redis.call('SET', KEYS[1], cjson.encode(new))
return 'published'
