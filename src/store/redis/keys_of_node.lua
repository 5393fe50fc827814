-- The part of decide.lua that finds and reads the counters of a call over all slots of a Cluster's node. Redis sends a call
-- away as a whole if one declared key is on another node, so the keys are not declared: they are the first of ARGV, the last
-- of which is their number. Each is read by a command of its own, which the node refuses where the slot has moved or is
-- moving and the key isn't here. Only single keys are touched by a command, whatever the slots.
--
-- A request over such a counter is answered with one number in place of all its answers, and Rust asks again by the slot. All
-- others are decided. (1) A counter that can't be read is never written: all counters of a request are read before the first
-- write. (2) An error that doesn't speak of slots fails the call, as it does over one slot, and nothing is charged.
--
-- ARGV      the counters; what decide.lua calls ARGV[1], ARGV[2] and so on; the number of counters
-- returns   as decide.lua, but -2^53 for a request over a counter that isn't here, and -2^54 for one over a counter that the
--           node forbids because it isn't declared, or not in the slot of another

local keys, total = ARGV, tonumber(ARGV[#ARGV])
local before, last_argument = total, #ARGV - 1

-- Errors stay among the values: they have no length, so the loop of decide.lua leaves their requests to `elsewhere`.
local function read(logs)
  local values, pcall = { unpack(keys, 1, total) }, redis.pcall
  for counter = 1, total - logs do
    values[counter] = pcall('GET', keys[counter])
  end
  return values
end

local MOVED, FORBIDDEN = -9007199254740992, -18014398509481984

-- What an error of a read means: false that the key has something other than a string, which counts as absent; a number
-- that the counter is elsewhere; the error itself that the call fails.
local function meaning(failed)
  local function says(...)
    for _, word in ipairs({ ... }) do
      if string.find(failed.err, word, 1, true) then return true end
    end
  end
  if says('WRONGTYPE') then return false end
  if says('undeclared', 'same slot', 'CROSSSLOT') then return FORBIDDEN end
  if says('non local key', 'MOVED', 'ASK', 'TRYAGAIN', 'CLUSTERDOWN', 'cluster is down') then return MOVED end
  return failed
end

-- Whether a request over `checks`, a list of counters and terms in turn, is answered elsewhere: nil, the number that
-- answers it, or the error that the call fails with.
local function elsewhere(checks, raw, logs)
  for i = 1, #checks, 2 do
    local counter = checks[i]
    local value = raw[counter]
    if counter > total - logs then
      -- A log is read in pieces, later; one byte says whether it is here. Whoever has no right to GETRANGE reads it whole.
      value = redis.pcall('GETRANGE', keys[counter], '0', '0')
      if type(value) == 'table' and string.find(value.err, 'NOPERM', 1, true) then
        value = redis.pcall('GET', keys[counter])
      end
    end
    if type(value) == 'table' then
      local means = meaning(value)
      if means then return means end
      raw[counter] = false
    end
  end
end
