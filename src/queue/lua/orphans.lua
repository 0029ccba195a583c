-- Looks at a page of the sealed batches, oldest first, for those that have been without a job for a while.
--
-- KEYS: 1 prefix
-- ARGV: 1 what stands before the id in a job's key, 2 how long ago a batch must have been sealed, ms,
--       3 offset of the page, 4 its length
-- Answers { how many were looked at, id, description, id, description … of those without a job }.
-- Changes nothing.

local prefix, job_prefix = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', prefix .. 'sealed', '-inf', until_ms, 'LIMIT', ARGV[3], ARGV[4])
local reply = { #ids }
for _, id in ipairs(ids) do
  if redis.call('EXISTS', job_prefix .. id) == 0 then
    local description = redis.call('HGET', prefix .. 'meta', id)
    if description then
      reply[#reply + 1] = id
      reply[#reply + 1] = description
    end
  end
end
return reply
