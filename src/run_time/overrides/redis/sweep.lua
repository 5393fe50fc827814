-- Removes rows that have expired, unless they were written again since. Other replicas drop theirs by themselves, so
-- nobody is told.
--
-- KEYS     the domain's rows
-- ARGV     by twos: id, version
-- returns  how many were removed

local removed = 0
for i = 1, #ARGV, 2 do
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  if there and string.match(there, '^(%d+):') == ARGV[i + 1] then
    removed = removed + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return removed
