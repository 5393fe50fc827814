-- Sets or deletes one override, or leaves everything as it is: the row, the generation, the change for other replicas to
-- read, the audit entry and the news of it are one step.
--
-- KEYS  the domain's rows, its changes, its audit entries
-- ARGV  1 set or delete; 2 id; 3 the record to set; 4 the condition: '' none, '*' there is one, '-' there is none, else
--       its version; 5 the generation that the caller knows, 0 if it knows of no row; 6 rows at most; 7 the channel;
--       8 the domain; 9 the audit entry; 10 audit entries kept; 11 changes kept; 12 the deadline by the clock of this Redis
-- returns {what became of it, the version, the row before ('' for none)}: ok; changed (the condition
--       doesn't hold), missing (nothing to delete), full, restoring (a replica is just writing back what Redis lost, so that
--       what is deleted now could come back), lost (Redis has forgotten rows that the caller knows), late (the deadline has
--       passed: its author was told that it failed; the version is this Redis' clock)
--
-- Rust twin: src/overrides/local.rs does the same in memory.

local rows, changes, audit = KEYS[1], KEYS[2], KEYS[3]
local op, id, record, condition, known = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[12]) then return {'late', string.format('%.0f', now), ''} end

local meta = redis.call('HMGET', rows, '#generation', '#born', '#restoring', id)
local generation, born, restoring, before = tonumber(meta[1] or 0), tonumber(meta[2] or 0), meta[3], meta[4]
local function answer(status, version)
  return {status, version or '0', before or ''}
end

if known > 0 and (generation < known or known < born) then return answer('lost') end
local till = restoring and tonumber(string.match(restoring, ':(%d+)$'))
if op == 'delete' and till and till > now then return answer('restoring') end

local has = before and string.match(before, '^(%d+):')
if condition == '*' and not has or condition == '-' and has
  or condition ~= '' and condition ~= '*' and condition ~= '-' and condition ~= has then
  return answer('changed', has)
end
if op == 'delete' and not has then return answer('missing') end
if op == 'set' and not has and redis.call('HLEN', rows) >= tonumber(ARGV[6]) then return answer('full') end

local version = string.format('%.0f', math.max(now, generation + 1, known + 1))
if op == 'set' then
  redis.call('HSET', rows, id, version .. ':' .. record)
else
  redis.call('HDEL', rows, id)
end
redis.call('HSET', rows, '#generation', version)
if born == 0 then redis.call('HSET', rows, '#born', version) end
redis.call('XADD', changes, 'MAXLEN', '~', ARGV[11], version .. '-0', op, id)
redis.call('XADD', audit, 'MAXLEN', '~', ARGV[10], '*', 'entry', ARGV[9], 'version', version, 'before', before or '',
  'after', op == 'set' and record or '')
redis.call('PUBLISH', ARGV[7], ARGV[8] .. '\n' .. version)
return answer('ok', version)
