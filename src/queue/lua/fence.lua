-- From now on rows that were placed by an older routing are refused (append.lua).
--
-- KEYS: 1 prefix
-- ARGV: 1 generation of a routing
-- Answers the generation that holds. Running it twice does nothing.

local counts = KEYS[1] .. 'counts'
local held = tonumber(redis.call('HGET', counts, 'generation') or 0)
if held >= tonumber(ARGV[1]) then return held end
redis.call('HSET', counts, 'generation', ARGV[1])
return tonumber(ARGV[1])
