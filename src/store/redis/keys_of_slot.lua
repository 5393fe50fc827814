-- The part of decide.lua that finds and reads the counters of a call over one slot, or of one Redis: they are declared, as
-- KEYS, and one command reads all.

local keys, total, before, last_argument = KEYS, #KEYS, 0, #ARGV

local function read(logs)
  return logs < total and call('MGET', unpack(keys, 1, total - logs)) or {}
end

-- All counters are here, or the call fails.
local elsewhere
