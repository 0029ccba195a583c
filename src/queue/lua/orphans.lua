-- Looks at a page of the sealed batches, oldest first, for those that have been without a job for a while, and
-- for those whose job was put off by a clock that is wrong: BullMQ delays by the clock of the writer.
--
-- KEYS: 1 prefix
-- ARGV: 1 what stands before the id in a job's key, 2 how long ago a batch must have been sealed, ms,
--       3 offset of the page, 4 its length, 5 the longest that a job may be put off, or be overdue, ms
-- Answers { how many were looked at, { ids of those that were put off }, id, description, id, description …
-- of those without a job }. Changes nothing.

local prefix, job_prefix, delay_max = KEYS[1], ARGV[1], tonumber(ARGV[5])
-- BullMQ's score of a delayed job is its time in ms times this, plus a number.
local TIMES = 4096
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', prefix .. 'sealed', '-inf', now - ARGV[2], 'LIMIT', ARGV[3], ARGV[4])
local put_off = {}
local reply = { #ids, put_off }
for _, id in ipairs(ids) do
  if redis.call('EXISTS', job_prefix .. id) == 0 then
    local description = redis.call('HGET', prefix .. 'meta', id)
    if description then
      reply[#reply + 1] = id
      reply[#reply + 1] = description
    end
  else
    local score = redis.call('ZSCORE', job_prefix .. 'delayed', id)
    if score and math.abs(tonumber(score) / TIMES - now) > delay_max then put_off[#put_off + 1] = id end
  end
end
return reply
