-- Writes back a few of the rows that Redis lost, or gave up in a restart from an older copy. One replica at a time does
-- it, for as long as it goes on calling. A row that is there in a newer version stays.
--
-- KEYS  the domain's rows, its changes
-- ARGV  1 who calls; 2 for how long nobody else may, in µs, 0 to end; 3 the generation that the caller knows; 4 the channel;
--       5 the domain; 6 changes kept; then by threes: id, version, record; without a record the row is deleted if it isn't
--       newer
-- returns {ok or restoring (another does), the generation, rows that were changed}

local rows, changes = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local meta = redis.call('HMGET', rows, '#generation', '#born', '#restoring')
local generation, born, restoring = tonumber(meta[1] or 0), meta[2], meta[3]
if restoring then
  local who, till = string.match(restoring, '^(.*):(%d+)$')
  if who ~= ARGV[1] and tonumber(till) > now then return {'restoring', string.format('%.0f', generation), '0'} end
end

local version = string.format('%.0f', math.max(now, generation + 1, tonumber(ARGV[3]) + 1))
local entry = {'XADD', changes, 'MAXLEN', '~', ARGV[6], version .. '-0'}
for i = 7, #ARGV, 3 do
  local id, ours, record = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local there = redis.call('HGET', rows, id)
  local theirs = there and tonumber(string.match(there, '^(%d+):'))
  if record == '' then
    if theirs and theirs <= ours then
      redis.call('HDEL', rows, id)
      entry[#entry + 1], entry[#entry + 2] = 'delete', id
    end
  elseif not theirs or theirs < ours then
    redis.call('HSET', rows, id, ARGV[i + 1] .. ':' .. record)
    entry[#entry + 1], entry[#entry + 2] = 'set', id
  end
end

local changed = (#entry - 6) / 2
if not born then
  -- Without rows too, so that other replicas see that there is somebody to wait for.
  redis.call('HSET', rows, '#born', version)
  if changed == 0 then entry[7], entry[8] = 'begin', '' end
end
if #entry > 6 then
  redis.call('HSET', rows, '#generation', version)
  redis.call(unpack(entry))
  redis.call('PUBLISH', ARGV[4], ARGV[5] .. '\n' .. version)
else
  version = string.format('%.0f', generation)
end
if ARGV[2] == '0' then
  redis.call('HDEL', rows, '#restoring')
else
  redis.call('HSET', rows, '#restoring', ARGV[1] .. ':' .. string.format('%.0f', now + ARGV[2]))
end
return {'ok', version, tostring(changed)}
