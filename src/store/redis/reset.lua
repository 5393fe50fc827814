-- Begins counters afresh, tells all replicas to forget what they remember of denials by them, and writes down who asked for
-- it: one step.
--
-- KEYS     counters, and where there is an entry, the stream that it goes to; all in one slot of a Cluster
-- ARGV     the channel of what admits again; where there is an entry, it and how many the stream keeps
-- returns  how many counters there were

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
