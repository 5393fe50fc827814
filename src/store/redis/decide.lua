-- Decides a batch of requests inside Redis and charges their counters, in one atomic step. Each request has one or more
-- checks, of a counter against a term (a limit and a cost). A request that is not denied charges each check that was
-- admitted; a denied one charges only the checks with charge_denied. Rust sends the batch (batch.rs) and reads the reply.
--
-- KEYS     the distinct counters of the batch; those of sliding logs stand last. In a Cluster a batch over all slots of a
--          node has them before ARGV[1] (keys_of_node.lua); all others are of one slot (keys_of_slot.lua)
-- ARGV[1]  '<ddd'       now in µs since the epoch (0: use Redis' TIME), the deadline in µs of the same clock (0: none), how
--                       many of KEYS are logs; then
--          '<dddddddd'  for each term: algorithm (0 to 4, as Algorithm::ALL), hits (negative: a refund), charge_denied (0
--                       or 1; of a refund of one known charge, the time of that in µs, at least 2), role (0 enforced,
--                       1 quota, 2 shadow), requests, window in µs, sub-windows, burst
-- ARGV[2]  '<I2I2BB'    for each run: how many requests it has, how often each of them comes, gate, checks of each - 1;
--                       then '<I2' for each check: its term. The gate is the sum of 1 quota_open, 2 never_deny,
--                       4 independent and 8 denied elsewhere (another part of the request was); never both 4 and 8
-- ARGV[3]  only with refunds: the channel on which replicas hear of them; ARGV[4...] are the refunded counters
-- returns  '<dddd' now, number of damaged counters, position of the first of them in KEYS, number of counters whose time
--          was set back; then the answers of each request, run by run. The usual answer is '<d' for each check: hits
--          remaining after the last repetition, plus a half. Any other is '<dd' for each repetition and check: remaining
--          (-1 - remaining where refused) and the reset in µs. After the deadline: '<d' now alone, and nothing is charged.
--
-- An independent request comes once or has one check, checks no log, isn't denied elsewhere, and each of its counters is
-- in no other check of the batch. Runs of such requests come first and take their counters from KEYS in order, so no
-- position is sent. Any other run has one request, with '<I2' the counter's position in KEYS behind the term of each check.
--
-- The script's cost is the number of Lua's steps and of the values that it makes, so there are two parts. The loop below
-- decides the usual requests: independent, of sliding windows, admitted, with at least one hit to spare. `careful`
-- (careful.lua) decides all others, one at a time, and is only built in a batch that has one. To the loop a counter is in
-- one of four states: absent; last hit in the current sub-window (4 bytes change); last hit in an older one (the value is
-- written anew from its index on); or not usual, which ends the attempt and hands its request to `careful`.
--
-- Invariants. (1) Everything is decided before the first write, so an error reply means that nothing was charged. (2) All
-- numbers are whole and below 2^53, where doubles are exact; sums are taken in an order that keeps them so. (3) A counter
-- is written by one of the two parts, never by both: `puts` is false where `careful` has it. (4) No key expires before its
-- counter is empty. (5) It decides as its Rust twins do: `step` and `undo` of src/algorithm.rs, `settle` of
-- src/store/settle.rs, with the packed states of src/algorithm/layout.rs.
--
-- Example (script/tests.rs builds it and compares all bytes). At 100 s, user=a comes twice: 5 hits per 10 s, counted in
-- sub-windows of 1 s (term 1). Then b comes, and then c, each with one hit of its own (term 1) and one of path=/up, which
-- admits 1 per 10 s in a fixed window (term 2). b takes that hit, so the request of c is denied, and c is not charged.
--   KEYS[1]  "tg1:{3}:sw10:10s:d:user=a"
--   KEYS[2]  "tg1:{3}:sw10:10s:d:user=b"
--   KEYS[3]  "tg1:{3}:fw:10s:d:path=/up"
--   KEYS[4]  "tg1:{3}:sw10:10s:d:user=c"
--   ARGV[1]  0000000084d79741 0000000000000000 0000000000000000 ; now=100000000 deadline=0 logs=0
--            0000000000000000 000000000000f03f 0000000000000000 ; algorithm=0 hits=1 charge_denied=0
--            0000000000000000 0000000000001440 00000000d0126341 ; role=0 requests=5 window=10000000
--            0000000000002440 0000000000001440 ; sub-windows=10 burst=5 (of no meaning here)
--            000000000000f03f 000000000000f03f 0000000000000000 ; algorithm=1 hits=1 charge_denied=0
--            0000000000000000 000000000000f03f 00000000d0126341 ; role=0 requests=1 window=10000000
--            0000000000004040 000000000000f03f ; sub-windows=32 burst=1 (of no meaning here)
--   ARGV[2]  0100 0200 04 00 0100 ; requests=1 repetitions=2 gate=4 checks-1=0 term=1
--            0100 0100 00 01 0100 0200 0200 0300 ; requests=1 repetitions=1 gate=0 checks-1=1 term=1 key=2 term=2 key=3
--            0100 0100 00 01 0100 0400 0200 0300 ; requests=1 repetitions=1 gate=0 checks-1=1 term=1 key=4 term=2 key=3
--   reply    0000000084d79741 0000000000000000 ; now=100000000 damaged=0
--            0000000000000000 0000000000000000 ; first-damaged=0 set-back=0
--            0000000000000c40 ; a=3.5 (the second leaves 3, so the first left 4)
--            0000000000001040 0000000018fb6441 0000000000000000 00000000d0126341 ; b=4 reset=11000000 up=0 reset=10000000
--            0000000000001440 0000000000000000 000000000000f0bf 00000000d0126341 ; c=5 reset=0 up=-1 reset=10000000
--   GET[1]   90dc01000000 64000000000000 02000000 0000000000 00 00 ; deadline=122000 index=100 count=2 sum=0 age=0 pairs=0
--   GET[2]   90dc01000000 64000000000000 01000000 0000000000 00 00 ; deadline=122000 index=100 count=1 sum=0 age=0 pairs=0
--   GET[3]   c0d401000000 0a000000000000 01000000000000 ; deadline=120000 index=10 count=1

local call, byte, sub, floor = redis.call, string.byte, string.sub, math.floor
local pack, unpick = struct.pack, struct.unpack

-- keys.lua goes here
local head, runs = ARGV[before + 1], ARGV[before + 2]
local now, deadline, logs = unpick('<ddd', head)
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
if deadline > 0 and now > deadline then
  return pack('<d', now)
end

local WHOLE_MAX = 9007199254740992
local WAIT_MAX = 4503599627370496
-- A bucket's longest wait with its slack, and some more, in ms: no counter's key has a later deadline.
local DEADLINE_MAX = floor((now + 3 * WAIT_MAX) / 1000)

-- A key never expires before its counter is empty. It lives at least an eighth of that time longer, so that it seldom
-- needs a new deadline; a new deadline is twice as far away as the end of the counter.
local function slack(life)
  return life > 8000000 and life / 8 or 1000000
end

local function new_deadline(expires)
  local life = expires - now
  return -floor(-(expires + (life > 2000000 and life or 2000000)) / 1000)
end

-- The values of all counters but logs, of which only the slots that a request needs are read, later.
local raw = read(logs)
-- The numbers of the reply; the first four are about the whole batch. This table and `puts` are made at their full size,
-- because they are filled out of order.
local answers, answered = { 0, 0, 0, 0, unpack(keys, 1, total) }, 4
local damaged, first_damaged, ahead = 0, 0, 0

-- What the loop below will write, by counter; false where it leaves that to `careful`. Four bytes are the count of the
-- current sub-window; more are the value from the index on, or the whole value if the counter has a new TTL.
local puts, ttls = { unpack(keys, 1, total) }, {}

local one, several, write, terms

local at, size = 1, #runs
-- The last counter that was taken for a run; how many requests of the run are still to come; and how many of these are
-- tried at once: all, but few after one that was not usual, because the loop goes check by check and would do too much.
local last, rest, span = 0, 0, 0
local times, gate, count, independent, checks_at

-- Of the term that the loop is at: the hits that each counter is charged; what a usual request leaves of an empty counter,
-- plus the half of a usual answer (0 if no request with this term is usual); the current sub-window, and the number of
-- sub-windows; when a counter that is hit now is empty again, in µs; the least deadline of its key, in ms; the value of a
-- counter that begins now, from the index on; the bytes of a new deadline; and the TTL in ms.
local term, all, most, index, sub_windows, expires, deadline_min, begun, till_new, ttl_new
while rest > 0 or at <= size do
  if rest == 0 then
    rest, times, gate, count, at = unpick('<I2I2BB', runs, at)
    count, span, term = count + 1, rest, 0
    independent = gate >= 4 and gate < 8
    if independent then
      gate, checks_at, at = gate - 4, at, at + 2 * count
    end
  end

  local tried, taken = 0, 0
  if independent then
    tried = span < rest and span or rest
    taken = tried
    for i = 1, count do
      local nth = unpick('<I2', runs, checks_at + 2 * i - 2)
      if nth ~= term then
        local algorithm, hits, _, _, requests, window, parts = unpick('<ddddddd', head, 64 * nth - 39)
        term, all, most, begun, till_new = nth, hits * times, 0, nil, nil
        if algorithm == 0 and hits > 0 then
          local part = -floor(-window / parts)
          index, sub_windows, most = floor(now / part), parts, requests - all + 0.5
          expires = (index + sub_windows + 1) * part
          deadline_min = (expires + slack(expires - now)) / 1000
        end
      end
      if most < 1 then taken = 0 end
      for counter = last + i, last + taken * count, count do
        local value, left, till, put = raw[counter], most, deadline_min
        if not value then
          begun = begun or pack('<I7I4I5BB', index, all, 0, 0, 0)
          put, till = begun, 0
        elseif #value >= 24 then
          local lives, was, hits, older, oldest, pairs = unpick('<I6I7I4I5BB', value)
          if hits == 0 or was > index then
            -- Emptied by a refund, or from the future: not usual, so `put` stays nil.
          elseif was == index then
            put, left = pack('<I4', hits + all), most - hits - older
          elseif pairs <= oldest and #value >= 24 + 5 * pairs and lives <= DEADLINE_MAX then
            till, oldest = lives, oldest + index - was
            if index - was > sub_windows then
              begun = begun or pack('<I7I4I5BB', index, all, 0, 0, 0)
              put = begun
            else
              -- Pairs that no longer count are left out.
              local from = 25
              while oldest > sub_windows do
                if pairs == 0 then
                  oldest = index - was
                else
                  local _, gone = unpick('<BI4', value, from)
                  older, pairs, from = older - gone, pairs - 1, from + 5
                  oldest = pairs > 0 and (index - byte(value, from)) % 256 or index - was
                end
              end
              -- Otherwise the value is damaged.
              if older >= pairs and (pairs > 0 or older == 0) then
                -- The sub-window that it was last hit in becomes the newest pair.
                local behind = sub(value, from, from + 5 * pairs - 1)
                older = older + hits
                put = pack('<I7I4I5BBc0BI4', index, all, older, oldest, pairs + 1, behind, was % 256, hits)
                left = most - older
              end
            end
          end
        end
        if not put or left < 1 then
          taken = (counter - last - i) / count
          break
        end
        if till < deadline_min then
          if not till_new then
            till_new = new_deadline(expires)
            till_new, ttl_new = pack('<I6', till_new), string.format('%.0f', till_new - floor(now / 1000))
          end
          put, ttls[counter] = till_new .. put, ttl_new
        end
        puts[counter], answers[answered + counter - last] = put, left
      end
    end
    last, answered, rest = last + taken * count, answered + taken * count, rest - taken
    span = taken == tried and 2 * span or 1
  end

  if rest > 0 and (taken < tried or not independent) then
    if not one then
-- careful.lua goes here
      one, several, write, terms = careful()
    end
    local checks = {}
    for i = 1, 2 * count, 2 do
      local nth
      if independent then
        last = last + 1
        puts[last] = false
        nth, checks[i] = unpick('<I2', runs, checks_at + i - 1), last
      else
        nth, checks[i], at = unpick('<I2I2', runs, at)
      end
      checks[i + 1] = terms[nth]
    end
    local answer = elsewhere and elsewhere(checks, raw, logs)
    if type(answer) == 'table' then return answer end
    if answer then
      answered = answered + 1
      answers[answered] = answer
    elseif count == 1 and gate < 8 then
      one(checks[1], checks[2], times)
    else
      several(checks, times, gate)
    end
    rest = rest - 1
  end
end

local create
if write or next(ttls) then
  create = function(counter, value, ttl)
    local was = redis.pcall('SET', keys[counter], value, 'PX', ttl, 'GET')
    if type(was) ~= 'table' or not was.err then return end
    if not string.find(was.err, 'WRONGTYPE', 1, true) then return was end
    -- The key had something other than a string, which MGET shows as absent.
    if damaged == 0 then first_damaged = counter end
    damaged = damaged + 1
    call('SET', keys[counter], value, 'PX', ttl)
  end
end

for i = 1, last do
  local value = puts[i]
  if value then
    if #value == 4 then
      call('SETRANGE', keys[i], '13', value)
    elseif ttls[i] then
      local failed = create(i, value, ttls[i])
      if failed then return failed end
    else
      call('SETRANGE', keys[i], '6', value)
    end
  end
end
local failed = write and write(create)
if failed then return failed end

-- pcall, because an error reply would mean that nothing was charged.
for i = before + 4, last_argument do
  redis.pcall('PUBLISH', ARGV[before + 3], ARGV[i])
end

answers[1], answers[2], answers[3], answers[4] = now, damaged, first_damaged, ahead
return pack('<' .. string.rep('d', answered), unpack(answers, 1, answered))
