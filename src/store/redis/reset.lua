-- Begins counters afresh, and tells all replicas to forget what they remember of denials by them.
--
-- KEYS     counters, all in one slot
-- ARGV     the channel of what admits again
-- returns  how many there were

local removed = redis.call('DEL', unpack(KEYS))
for i = 1, #KEYS do redis.call('PUBLISH', ARGV[1], KEYS[i]) end
return removed
