-- `sliding_log`, as src/algorithm/log.rs. A part of careful.lua, whose locals it sees.
--
-- The entries lie in a ring of slots (src/algorithm/layout/ring.rs), each with the sum of all hits up to and with its own.
-- So what has left, and what must leave before there is room, is found by halving. Only the header and the few slots that
-- a request is about are read and written, and its cost does not grow with the log.

if USES[2] then
  local HEAD, SLOT = 41, 13
  local SUM_MAX = 281474976710656 -- 2^48: sums begin again there
  local SHIFT_MAX = 1125899906842624 -- 2^50, about 35 years
  -- Slots that are read at once: the first with the header, and some from the oldest entry on.
  local AT_ONCE = 16
  local HEAD_END = string.format('%d', HEAD + SLOT * AT_ONCE - 1)
  -- Nothing to write, and no shift: what most logs begin with.
  local AS_STORED = { '', 0 }

  -- Of the value in Redis: how many slots it has, and a piece of it with the first slot therein.
  local SLOTS, PIECE, PIECE_FROM = {}, {}, {}

  -- Bytes of the value in Redis; fewer, or none, where it ends before.
  local function bytes(k, from, to)
    local s = redis.pcall('GETRANGE', keys[k], from, to)
    if type(s) == 'string' then return s end
    -- A user of Redis without the right to GETRANGE: dear for a long log, but right.
    s = redis.pcall('GET', keys[k])
    if type(s) == 'string' then return sub(s, from + 1, to + 1) end
    -- Something else than a string is taken for nothing, as MGET shows it; any other error is one of the whole batch.
    if s and not string.find(s.err, 'WRONGTYPE', 1, true) then call('GET', keys[k]) end
    return ''
  end

  -- Careful's `raw` of a log: the header and the slots next to it; nil where there is no key.
  local function read_log(k)
    local s = bytes(k, '0', HEAD_END)
    -- No key, or one that holds no bytes, as no counter does.
    if s == '' then s = redis.pcall('GET', keys[k]) end
    return type(s) == 'string' and s or nil
  end

  -- `E` is the tail, the packed entries at the end that are to be written, and by how much the times in slots are too late;
  -- another where one of them changes, for requests that are denied go back to what was there.
  -- `C` is the position of the oldest entry, `D` their number: a position counts on where the slots begin again.
  local function open_log(k, s)
    if #s < HEAD then return spoilt(k) end
    local till, newest, sum, base, shift, first, live, slots = unpick('<I6I7I6I6I7I3I3I3', s)
    if till > DEADLINE_MAX or newest >= WHOLE_MAX or shift > SHIFT_MAX or first >= slots or live > slots
      or (live > 0) ~= (sum > 0) or (slots <= AT_ONCE and #s < HEAD + SLOT * slots) then
      return spoilt(k)
    end
    local last = (first + live - 1) % slots
    if live > 0 and last < AT_ONCE and #s >= HEAD + SLOT * (last + 1) then
      local time, upto = unpick('<I7I6', s, HEAD + SLOT * last + 1)
      if (time > shift and time - shift or 0) ~= newest or upto ~= (base + sum) % SUM_MAX then return spoilt(k) end
    end
    A[k], B[k], C[k], D[k], F[k] = live > 0 and newest, sum, first, live, base
    DEADLINE[k], SLOTS[k], E[k] = till, slots, shift == 0 and AS_STORED or { '', shift }
  end

  -- The entry at a position: its time, and the hits from the oldest on up to and with its own. Nothing where it can't be
  -- as it is: to look at all of them for every request would cost too much.
  local function entry(k, p)
    local tail, shift = E[k][1], E[k][2]
    local s, at = tail, #tail - SLOT * (C[k] + D[k] - p) + 1
    if at < 1 then
      local slot = p % SLOTS[k]
      s, at = raw[k], HEAD + SLOT * slot + 1
      if #s < at + SLOT - 1 then
        s, at = PIECE[k], PIECE[k] and SLOT * (slot - PIECE_FROM[k]) + 1
        if not s or at < 1 or #s < at + SLOT - 1 then
          -- Next to the oldest several, which are looked at again and again; others by themselves.
          local many = PIECE[k] and 1 or AT_ONCE
          s, at = bytes(k, HEAD + SLOT * slot, HEAD + SLOT * (slot + many) - 1), 1
          if many > 1 then PIECE[k], PIECE_FROM[k] = s, slot end
          if #s < SLOT then return end
        end
      end
    end
    local time, upto = unpick('<I7I6', s, at)
    time, upto = time > shift and time - shift or 0, (upto - F[k]) % SUM_MAX
    if upto > 0 and upto <= B[k] and time <= A[k] then return time, upto end
  end

  -- The first entry after the time `after` with which, from the oldest on, there are at least `need` hits; else the newest.
  -- Returns its position, its time and the hits before it; nothing where an entry on the way can't be right.
  local function search(k, after, need)
    local low, high = C[k], C[k] + D[k] - 1
    local found, before = A[k], 0
    -- It is mostly among the oldest, so the steps from there begin small.
    local jump, next_jump = 0, 0
    while low < high do
      local p = floor((low + high) / 2)
      if low + jump < p then p = low + jump end
      local time, upto = entry(k, p)
      if not time then return end
      if time > after and upto >= need then
        high, found, jump = p, time, D[k]
      else
        low, before, jump, next_jump = p + 1, upto, next_jump, 2 * next_jump + 1
      end
    end
    return low, found, before
  end

  -- Entries from a position on, packed as in slots.
  local function packed(k, p)
    local tail = E[k][1]
    local stored = C[k] + D[k] - p - #tail / SLOT
    if stored <= 0 then return sub(tail, 1 - SLOT * stored) end
    local from = p % SLOTS[k]
    local straight = SLOTS[k] - from
    if straight > stored then straight = stored end
    local s = bytes(k, HEAD + SLOT * from, HEAD + SLOT * (from + straight) - 1)
    if stored > straight then s = s .. bytes(k, HEAD, HEAD + SLOT * (stored - straight) - 1) end
    -- Of a value that was cut off the rest is missing, which is seen when it is looked at.
    return s .. string.rep('\0', SLOT * stored - #s) .. tail
  end

  -- The same with times earlier by `by` and sums lower by `less`. Many at once, which takes half of the time.
  local MANY, formats = 64, {}
  local function rewritten(s, by, less)
    local all = {}
    for at = 1, #s, MANY * SLOT do
      local size = (#s - at + 1) / SLOT
      if size > MANY then size = MANY end
      local format = formats[size] or '<' .. string.rep('I7I6', size)
      formats[size] = format
      local numbers = { unpick(format, s, at) }
      for i = 1, 2 * size, 2 do
        local time = numbers[i]
        numbers[i] = time > by and time - by or 0
        numbers[i + 1] = (numbers[i + 1] - less) % SUM_MAX
      end
      all[#all + 1] = pack(format, unpack(numbers, 1, 2 * size))
    end
    return table.concat(all)
  end

  local function log_shift(k)
    local tail, shift = E[k][1], E[k][2] + A[k] - now
    if shift > SHIFT_MAX then
      tail, shift = rewritten(packed(k, C[k]), shift, 0), 0
    end
    A[k], E[k] = now, { tail, shift }
    if WRITE[k] < 1 then WRITE[k] = 1 end
    ahead = ahead + 1
  end

  -- Adds hits at a time that is not before the newest. An entry saturates.
  local function log_push(k, time, hits)
    local tail, shift = E[k][1], E[k][2]
    if hits > U32 then hits = U32 end
    if D[k] > 0 and A[k] == time then
      if B[k] + hits > U32 then
        local _, before
        if D[k] > 1 then _, before = entry(k, C[k] + D[k] - 2) end
        local own = B[k] - (before or 0)
        if own + hits > U32 then hits = U32 - own end
      end
      tail = sub(tail, 1, -SLOT - 1)
    else
      A[k], D[k] = time, D[k] + 1
    end
    B[k] = B[k] + hits
    E[k] = { tail .. pack('<I7I6', time + shift, (F[k] + B[k]) % SUM_MAX), shift }
  end

  -- Forgets the entries before a position, which have `hits`.
  local function forget(k, p, hits)
    C[k], D[k] = p, D[k] - (p - C[k])
    B[k], F[k] = B[k] - hits, (F[k] + hits) % SUM_MAX
  end

  -- Takes up to `back` hits from the oldest.
  local function log_take(k, back)
    local p = back < B[k] and search(k, -1, back + 1)
    if p then
      forget(k, p, back)
    else
      B[k], D[k] = 0, 0
    end
  end

  -- Takes up to `back` hits from the entry of that time. The sums behind it fall, so this is dear where it is not among the
  -- newest; but what is taken back was mostly charged a moment ago.
  local function log_take_from(k, charged, back)
    if D[k] == 0 then return end
    local p, time, before = search(k, charged - 1, 0)
    if time ~= charged then return end
    local last, _, upto = C[k] + D[k] - 1, nil, B[k]
    if p < last then _, upto = entry(k, p) end
    if not upto then return end
    if back > upto - before then back = upto - before end
    local is_gone = back == upto - before
    if p == C[k] then return forget(k, is_gone and p + 1 or p, back) end
    local tail, shift = E[k][1], E[k][2]
    local kept = #tail - SLOT * (last + 1 - p)
    kept = kept > 0 and sub(tail, 1, kept) or ''
    local s = packed(k, p)
    if is_gone then
      s = sub(s, SLOT + 1)
      if p == last then A[k] = entry(k, p - 1) or A[k] end
      D[k] = D[k] - 1
    end
    B[k], E[k] = B[k] - back, { kept .. rewritten(s, 0, back), shift }
  end

  -- No more entries than can matter: the oldest two become one, of which those hits are lost that don't fit into it.
  local function log_settle(k, requests)
    if D[k] <= requests + 1 or D[k] <= 1 then return end
    forget(k, C[k] + 1, 0)
    if B[k] > U32 then
      local _, hits = nil, B[k]
      if D[k] > 1 then _, hits = entry(k, C[k]) end
      if hits and hits > U32 then forget(k, C[k], hits - U32) end
    end
  end

  local function log(k, t, hits)
    local requests, window = t.requests, t.window
    if A[k] and A[k] > now + window then log_shift(k) end
    local at, used, first, oldest = now, 0, nil, nil
    if A[k] then
      if A[k] > now then at = A[k] end
      if A[k] + window > at then
        local p, time, gone = search(k, at - window, 0)
        if p and gone < B[k] then
          first, oldest, used = p, time, B[k] - gone
        else
          spoilt(k)
          at = now
        end
      end
    end

    local admitted = hits < 0 or used + hits <= requests
    local before = used
    if hits ~= 0 and (admitted or t.charges) then
      if WRITE[k] < 1 then WRITE[k] = 1 end
      if first then
        forget(k, first, B[k] - used)
      else
        A[k], B[k], C[k], D[k], E[k], F[k] = false, 0, 0, 0, AS_STORED, 0
      end
      if t.charged > 1 then
        log_take_from(k, t.charged, -hits)
      elseif hits < 0 then
        log_take(k, -hits)
      else
        log_push(k, at, hits)
      end
      log_settle(k, requests)
      used = B[k]
      if used == 0 then A[k] = false end
    end

    local counted = admitted and used or before
    local remaining = counted < requests and requests - counted or 0
    local need
    if not admitted then
      if hits > requests then return false, remaining, window end
      need = used + hits - requests
    elseif remaining > 0 then
      return true, remaining, used > 0 and A[k] + window - now or 0
    elseif requests == 0 then
      return true, 0, window
    else
      need = used + 1 - requests
    end
    if not A[k] then return admitted, remaining, window end
    local leaves = oldest
    if need > 1 or not first or C[k] > first then
      local _
      _, leaves = search(k, -1, B[k] - used + need)
    end
    return admitted, remaining, (leaves or A[k]) + window - now
  end

  local function log_head(k, first, slots)
    return pack('<I6I7I6I6I7I3I3I3', DEADLINE[k], A[k], B[k], F[k], E[k][2], first, D[k], slots)
  end

  -- Half as many slots again as there are entries, so that a log that grows is seldom copied.
  local function log_value(k, t)
    local live = D[k]
    local slots = live > 1 and live + floor(live / 2) + 1 or 1
    if slots > t.requests + 1 then slots = t.requests + 1 end
    if slots < live then slots = live end
    return log_head(k, 0, slots) .. packed(k, C[k]) .. string.rep('\0', SLOT * (slots - live))
  end

  -- In place, if it fits and doesn't waste too much: the deadline, the entries that changed, then the header.
  REWRITE[2] = function(k, expires)
    local slots, live, tail = SLOTS[k], D[k], E[k][1]
    if live > slots or slots > 4 * live + AT_ONCE then return false end
    if DEADLINE[k] * 1000 < expires + slack(expires - now) then
      DEADLINE[k] = new_deadline(expires)
      call('EXPIRE', keys[k], -floor((floor(now / 1000) - DEADLINE[k]) / 1000))
    end
    tail = sub(tail, -SLOT * live)
    local from = (C[k] + live - #tail / SLOT) % slots
    local straight = SLOT * (slots - from)
    if tail ~= '' then call('SETRANGE', keys[k], HEAD + SLOT * from, sub(tail, 1, straight)) end
    if #tail > straight then call('SETRANGE', keys[k], HEAD, sub(tail, straight + 1)) end
    call('SETRANGE', keys[k], '0', log_head(k, C[k] % slots, slots))
    return true
  end

  local function log_expires(k, t)
    return A[k] + t.window
  end

  READ[2], OPEN[2], STEP[2], VALUES[2], EXPIRES[2] = read_log, open_log, log, log_value, log_expires
end
