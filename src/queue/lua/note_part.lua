-- Writes down what became of a part of a batch that is being divided.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 range, 3 'split' or 'stored'
-- Answers the state that is noted, or nil when the batch was ended: then nothing changes. Another state that
-- was noted before stays; the same one is written again, so that the caller can wait for replicas to have it.
-- HDEL comes first because it is never refused for want of memory; after a first write the others aren't
-- either. A full Redis may consist of batches that have to be divided before they can leave it.

local prefix, id, range, state = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local parts = prefix .. 'parts:' .. id

if not redis.call('ZSCORE', prefix .. 'sealed', id) then return nil end
local known = redis.call('HGET', parts, range)
if known and known ~= state then return known end
redis.call('HDEL', parts, range)
redis.call('HSET', parts, range, state)
return state
