-- Resets counters: removes them, tells all replicas to drop the denials that they cache for them, and adds an entry about it
-- to the audit stream, in one atomic step. It is sent whole with each reset, for resets are rare.
--
-- KEYS     the counters; with an entry, the stream that it goes to stands last. All are in one slot of a Cluster
-- ARGV[1]  the channel on which replicas hear of counters that admit again; a message is the key of a counter
-- ARGV[2]  the deadline in µs by the clock of this Redis, '' for none: a reset that comes later is refused, as its author was
--          told that it failed
-- ARGV[3]  with an entry: its text; and ARGV[4], about how many entries the stream keeps
-- returns  how many of the counters there were; for one that comes too late the clock of this Redis, as text
--
-- Invariant: a message goes out for every counter, also for one that wasn't there, because a replica may still cache a denial
-- by a counter that has expired.
--
-- Example (as script/tests.rs builds and compares it): after that of careful.lua. user=a has a counter, user=c has none.
--   KEYS[1]  "tg1:{3}:sw10:10s:d:user=a"
--   KEYS[2]  "tg1:{3}:sw10:10s:d:user=c"
--   KEYS[3]  "tg1:audit:{d}"
--   ARGV[1]  "tg1:refunds"
--   ARGV[2]  ""
--   ARGV[3]  "reset by ops"
--   ARGV[4]  "1000"
--   reply    ":1"

local counters, deadline, entry = #KEYS, tonumber(ARGV[2]), ARGV[3]
if deadline then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  if now > deadline then return string.format('%.0f', now) end
end
if entry then
  redis.call('XADD', KEYS[counters], 'MAXLEN', '~', ARGV[4], '*', 'entry', entry)
  counters = counters - 1
end
local removed = 0
for i = 1, counters do
  removed = removed + redis.call('DEL', KEYS[i])
  redis.call('PUBLISH', ARGV[1], KEYS[i])
end
return removed
