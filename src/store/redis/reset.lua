-- Resets counters: removes them, tells all replicas to drop the denials that they cache for them, and adds an entry about it
-- to the audit stream, in one atomic step. It is sent whole with each reset, for resets are rare.
--
-- KEYS     the counters; with an entry, the stream that it goes to stands last. All are in one slot of a Cluster
-- ARGV[1]  the channel on which replicas hear of counters that admit again; a message is the key of a counter
-- ARGV[2]  with an entry: its text; and ARGV[3], about how many entries the stream keeps
-- returns  how many of the counters there were
--
-- Invariant: a message goes out for every counter, also for one that wasn't there, because a replica may still cache a denial
-- by a counter that has expired.
--
-- Example (as script/tests.rs builds and compares it): after that of careful.lua. user=a has a counter, user=c has none.
--   KEYS[1]  "tg1:{3}:sw10:10s:d:user=a"
--   KEYS[2]  "tg1:{3}:sw10:10s:d:user=c"
--   KEYS[3]  "tg1:audit:{d}"
--   ARGV[1]  "tg1:refunds"
--   ARGV[2]  "reset by ops"
--   ARGV[3]  "1000"
--   reply    ":1"

local counters, entry = #KEYS, ARGV[2]
if entry then
  redis.call('XADD', KEYS[counters], 'MAXLEN', '~', ARGV[3], '*', 'entry', entry)
  counters = counters - 1
end
local removed = 0
for i = 1, counters do
  removed = removed + redis.call('DEL', KEYS[i])
  redis.call('PUBLISH', ARGV[1], KEYS[i])
end
return removed
