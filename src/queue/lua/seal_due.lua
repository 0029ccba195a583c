-- Seals the open batches that have reached the age bound, for when no further traffic does it.
--
-- KEYS: 1 prefix
-- ARGV: 1 id base (unique for ever), 2 age bound in ms
-- Answers: see answer(). Running it twice, or in several processes at once, seals each batch once.

local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', now - ARGV[2])
-- Since when the clock was set back.
for _, open in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'open', '(' .. now + ARGV[2], '+inf')) do
  due[#due + 1] = open
end
for _, open in ipairs(due) do
  local meta_key = prefix .. 'open:' .. open .. ':meta'
  local meta = redis.call('HMGET', meta_key, 'rows', 'bytes', 'fragments', 'newest', 'name')
  seal(open, meta[1] or 0, meta[2] or 0, meta[3] or 0, meta[4] or now, now, meta[5] or nil)
end
return answer(now, 0, {})
