-- `sliding_log`, as src/algorithm/log.rs. A part of careful.lua, whose locals it sees.
--
-- The entries are in a ring of slots (src/algorithm/layout/ring.rs). Each has a time, and the sum of all hits up to its own.
-- So a binary search finds which entries have left the window, and which must leave before there is room. Only the header
-- and the few slots that a request needs are read and written, and its cost does not grow with the log.
--
-- Columns: the newest entry's time, the sum of all hits, the position of the oldest entry, the number of entries, the tail,
-- and the sum of all hits before the oldest entry. A position counts on where the slots begin again: modulo the number of
-- slots it is the slot. The tail is what is not as in Redis: the packed entries at the end that are to be written, and by
-- how many µs the times in the slots are too late. A change makes a new tail, so that a denied request can restore the old.

if USES[2] then
  local NEWEST, SUM, FIRST, ENTRIES, TAIL, BASE = A, B, C, D, E, F
  local HEAD, SLOT = 41, 13
  local SUM_MAX = 281474976710656 -- 2^48: sums begin again there
  local SHIFT_MAX = 1125899906842624 -- 2^50, about 35 years
  -- Number of slots that are read at once: the first ones with the header, and some from the oldest entry on.
  local AT_ONCE = 16
  local HEAD_END = string.format('%d', HEAD + SLOT * AT_ONCE - 1)
  -- The tail of most logs at first: nothing to write, and no shift.
  local AS_STORED = { '', 0 }

  -- For each counter the number of slots in Redis, a piece of its value, and the first slot of the piece.
  local SLOTS, PIECE, PIECE_FROM = {}, {}, {}

  -- Bytes of the value in Redis; fewer, or none, if it ends before.
  local function bytes(counter, from, to)
    local value = redis.pcall('GETRANGE', keys[counter], from, to)
    if type(value) == 'string' then return value end
    -- The user of Redis has no right to GETRANGE: GET is expensive for a long log, but correct.
    value = redis.pcall('GET', keys[counter])
    if type(value) == 'string' then return sub(value, from + 1, to + 1) end
    -- Something other than a string counts as absent, as with MGET; any other error fails the whole batch.
    if value and not string.find(value.err, 'WRONGTYPE', 1, true) then call('GET', keys[counter]) end
    return ''
  end

  -- The `raw` of a log in careful.lua: the header and the slots behind it; nil if there is no key.
  local function read_log(counter)
    local value = bytes(counter, '0', HEAD_END)
    -- No key, or a key with an empty string, which no counter has.
    if value == '' then value = redis.pcall('GET', keys[counter]) end
    return type(value) == 'string' and value or nil
  end

  local function open_log(counter, value)
    if #value < HEAD then return spoilt(counter) end
    local till, newest, sum, base, shift, first, live, slots = unpick('<I6I7I6I6I7I3I3I3', value)
    if till > DEADLINE_MAX or newest >= WHOLE_MAX or shift > SHIFT_MAX or first >= slots or live > slots
      or (live > 0) ~= (sum > 0) or (slots <= AT_ONCE and #value < HEAD + SLOT * slots) then
      return spoilt(counter)
    end
    local last = (first + live - 1) % slots
    if live > 0 and last < AT_ONCE and #value >= HEAD + SLOT * (last + 1) then
      local time, upto = unpick('<I7I6', value, HEAD + SLOT * last + 1)
      if (time > shift and time - shift or 0) ~= newest or upto ~= (base + sum) % SUM_MAX then return spoilt(counter) end
    end
    NEWEST[counter], SUM[counter], BASE[counter] = live > 0 and newest, sum, base
    FIRST[counter], ENTRIES[counter] = first, live
    DEADLINE[counter], SLOTS[counter], TAIL[counter] = till, slots, shift == 0 and AS_STORED or { '', shift }
  end

  -- The entry at a position: its time, and the hits from the oldest entry up to its own. Returns nothing if the entry can't
  -- be right. Only the entries that a request needs are checked: checking all for every request would cost too much.
  local function entry(counter, position)
    local tail, shift = TAIL[counter][1], TAIL[counter][2]
    local value, at = tail, #tail - SLOT * (FIRST[counter] + ENTRIES[counter] - position) + 1
    if at < 1 then
      local slot = position % SLOTS[counter]
      value, at = raw[counter], HEAD + SLOT * slot + 1
      if #value < at + SLOT - 1 then
        value, at = PIECE[counter], PIECE[counter] and SLOT * (slot - PIECE_FROM[counter]) + 1
        if not value or at < 1 or #value < at + SLOT - 1 then
          -- Several from the oldest on, which are read again and again; others one by one.
          local many = PIECE[counter] and 1 or AT_ONCE
          value, at = bytes(counter, HEAD + SLOT * slot, HEAD + SLOT * (slot + many) - 1), 1
          if many > 1 then PIECE[counter], PIECE_FROM[counter] = value, slot end
          if #value < SLOT then return end
        end
      end
    end
    local time, upto = unpick('<I7I6', value, at)
    time, upto = time > shift and time - shift or 0, (upto - BASE[counter]) % SUM_MAX
    if upto > 0 and upto <= SUM[counter] and time <= NEWEST[counter] then return time, upto end
  end

  -- Finds the first entry after the time `after` up to which there are at least `need` hits, else the newest. Returns its
  -- position, its time and the hits before it; nothing if an entry on the way can't be right.
  local function search(counter, after, need)
    local low, high = FIRST[counter], FIRST[counter] + ENTRIES[counter] - 1
    local found, before = NEWEST[counter], 0
    -- It is mostly among the oldest entries, so the first steps from there are small.
    local jump, next_jump = 0, 0
    while low < high do
      local position = floor((low + high) / 2)
      if low + jump < position then position = low + jump end
      local time, upto = entry(counter, position)
      if not time then return end
      if time > after and upto >= need then
        high, found, jump = position, time, ENTRIES[counter]
      else
        low, before, jump, next_jump = position + 1, upto, next_jump, 2 * next_jump + 1
      end
    end
    return low, found, before
  end

  -- Entries from a position on, packed as in slots.
  local function packed(counter, position)
    local tail = TAIL[counter][1]
    local stored = FIRST[counter] + ENTRIES[counter] - position - #tail / SLOT
    if stored <= 0 then return sub(tail, 1 - SLOT * stored) end
    local from = position % SLOTS[counter]
    local straight = SLOTS[counter] - from
    if straight > stored then straight = stored end
    local value = bytes(counter, HEAD + SLOT * from, HEAD + SLOT * (from + straight) - 1)
    if stored > straight then value = value .. bytes(counter, HEAD, HEAD + SLOT * (stored - straight) - 1) end
    -- If the value was cut off, the missing rest becomes zeros, which no check takes for an entry.
    return value .. string.rep('\0', SLOT * stored - #value) .. tail
  end

  -- The same entries with times earlier by `by` and sums lower by `less`. Many at once, which halves the time.
  local MANY, formats = 64, {}
  local function rewritten(value, by, less)
    local all = {}
    for at = 1, #value, MANY * SLOT do
      local size = (#value - at + 1) / SLOT
      if size > MANY then size = MANY end
      local format = formats[size] or '<' .. string.rep('I7I6', size)
      formats[size] = format
      local numbers = { unpick(format, value, at) }
      for i = 1, 2 * size, 2 do
        local time = numbers[i]
        numbers[i] = time > by and time - by or 0
        numbers[i + 1] = (numbers[i + 1] - less) % SUM_MAX
      end
      all[#all + 1] = pack(format, unpack(numbers, 1, 2 * size))
    end
    return table.concat(all)
  end

  local function log_shift(counter)
    local tail, shift = TAIL[counter][1], TAIL[counter][2] + NEWEST[counter] - now
    if shift > SHIFT_MAX then
      tail, shift = rewritten(packed(counter, FIRST[counter]), shift, 0), 0
    end
    NEWEST[counter], TAIL[counter] = now, { tail, shift }
    if WRITE[counter] < 1 then WRITE[counter] = 1 end
    ahead = ahead + 1
  end

  -- Adds hits at a time that is not before the newest. An entry holds at most 2^32 - 1 hits.
  local function log_push(counter, time, hits)
    local tail, shift = TAIL[counter][1], TAIL[counter][2]
    if hits > U32 then hits = U32 end
    if ENTRIES[counter] > 0 and NEWEST[counter] == time then
      if SUM[counter] + hits > U32 then
        local _, before
        if ENTRIES[counter] > 1 then _, before = entry(counter, FIRST[counter] + ENTRIES[counter] - 2) end
        local own = SUM[counter] - (before or 0)
        if own + hits > U32 then hits = U32 - own end
      end
      tail = sub(tail, 1, -SLOT - 1)
    else
      NEWEST[counter], ENTRIES[counter] = time, ENTRIES[counter] + 1
    end
    SUM[counter] = SUM[counter] + hits
    TAIL[counter] = { tail .. pack('<I7I6', time + shift, (BASE[counter] + SUM[counter]) % SUM_MAX), shift }
  end

  -- Forgets the entries before a position, which have `hits` together.
  local function forget(counter, position, hits)
    FIRST[counter], ENTRIES[counter] = position, ENTRIES[counter] - (position - FIRST[counter])
    SUM[counter], BASE[counter] = SUM[counter] - hits, (BASE[counter] + hits) % SUM_MAX
  end

  -- Removes up to `back` hits from the oldest entries.
  local function log_take(counter, back)
    local position = back < SUM[counter] and search(counter, -1, back + 1)
    if position then
      forget(counter, position, back)
    else
      SUM[counter], ENTRIES[counter] = 0, 0
    end
  end

  -- Removes up to `back` hits from the entry of that time. The sums behind it fall, so this is expensive unless the entry is
  -- among the newest; but what is taken back was mostly charged a moment ago.
  local function log_take_from(counter, charged, back)
    if ENTRIES[counter] == 0 then return end
    local position, time, before = search(counter, charged - 1, 0)
    if time ~= charged then return end
    local last, _, upto = FIRST[counter] + ENTRIES[counter] - 1, nil, SUM[counter]
    if position < last then _, upto = entry(counter, position) end
    if not upto then return end
    if back > upto - before then back = upto - before end
    local is_gone = back == upto - before
    if position == FIRST[counter] then return forget(counter, is_gone and position + 1 or position, back) end
    local tail, shift = TAIL[counter][1], TAIL[counter][2]
    local kept = #tail - SLOT * (last + 1 - position)
    kept = kept > 0 and sub(tail, 1, kept) or ''
    local value = packed(counter, position)
    if is_gone then
      value = sub(value, SLOT + 1)
      if position == last then NEWEST[counter] = entry(counter, position - 1) or NEWEST[counter] end
      ENTRIES[counter] = ENTRIES[counter] - 1
    end
    SUM[counter], TAIL[counter] = SUM[counter] - back, { kept .. rewritten(value, 0, back), shift }
  end

  -- Keeps no more entries than can matter: the oldest two become one, and hits that don't fit into it are lost.
  local function log_settle(counter, requests)
    if ENTRIES[counter] <= requests + 1 or ENTRIES[counter] <= 1 then return end
    forget(counter, FIRST[counter] + 1, 0)
    if SUM[counter] > U32 then
      local _, hits = nil, SUM[counter]
      if ENTRIES[counter] > 1 then _, hits = entry(counter, FIRST[counter]) end
      if hits and hits > U32 then forget(counter, FIRST[counter], hits - U32) end
    end
  end

  local function log(counter, term, hits)
    local requests, window = term.requests, term.window
    if NEWEST[counter] and NEWEST[counter] > now + window then log_shift(counter) end
    local at, used, first, oldest = now, 0, nil, nil
    if NEWEST[counter] then
      if NEWEST[counter] > now then at = NEWEST[counter] end
      if NEWEST[counter] + window > at then
        local position, time, gone = search(counter, at - window, 0)
        if position and gone < SUM[counter] then
          first, oldest, used = position, time, SUM[counter] - gone
        else
          spoilt(counter)
          at = now
        end
      end
    end

    local admitted = hits < 0 or used + hits <= requests
    local before = used
    if hits ~= 0 and (admitted or term.charges) then
      if WRITE[counter] < 1 then WRITE[counter] = 1 end
      if first then
        forget(counter, first, SUM[counter] - used)
      else
        NEWEST[counter], SUM[counter], BASE[counter] = false, 0, 0
        FIRST[counter], ENTRIES[counter], TAIL[counter] = 0, 0, AS_STORED
      end
      if term.charged > 1 then
        log_take_from(counter, term.charged, -hits)
      elseif hits < 0 then
        log_take(counter, -hits)
      else
        log_push(counter, at, hits)
      end
      log_settle(counter, requests)
      used = SUM[counter]
      if used == 0 then NEWEST[counter] = false end
    end

    local counted = admitted and used or before
    local remaining = counted < requests and requests - counted or 0
    local need
    if not admitted then
      if hits > requests then return false, remaining, window end
      need = used + hits - requests
    elseif remaining > 0 then
      return true, remaining, used > 0 and NEWEST[counter] + window - now or 0
    elseif requests == 0 then
      return true, 0, window
    else
      need = used + 1 - requests
    end
    if not NEWEST[counter] then return admitted, remaining, window end
    local leaves = oldest
    if need > 1 or not first or FIRST[counter] > first then
      local _
      _, leaves = search(counter, -1, SUM[counter] - used + need)
    end
    return admitted, remaining, (leaves or NEWEST[counter]) + window - now
  end

  local function log_head(counter, first, slots)
    return pack('<I6I7I6I6I7I3I3I3', DEADLINE[counter], NEWEST[counter], SUM[counter], BASE[counter], TAIL[counter][2],
      first, ENTRIES[counter], slots)
  end

  -- The value has half as many slots again as there are entries, so that a growing log is seldom copied.
  local function log_value(counter, term)
    local live = ENTRIES[counter]
    local slots = live > 1 and live + floor(live / 2) + 1 or 1
    if slots > term.requests + 1 then slots = term.requests + 1 end
    if slots < live then slots = live end
    return log_head(counter, 0, slots) .. packed(counter, FIRST[counter]) .. string.rep('\0', SLOT * (slots - live))
  end

  -- Writes in place, if the entries fit and don't waste too much: the deadline, the entries that changed, then the header.
  REWRITE[2] = function(counter, expires)
    local slots, live, tail = SLOTS[counter], ENTRIES[counter], TAIL[counter][1]
    if live > slots or slots > 4 * live + AT_ONCE then return false end
    if DEADLINE[counter] * 1000 < expires + slack(expires - now) then
      DEADLINE[counter] = new_deadline(expires)
      call('EXPIRE', keys[counter], -floor((floor(now / 1000) - DEADLINE[counter]) / 1000))
    end
    tail = sub(tail, -SLOT * live)
    local from = (FIRST[counter] + live - #tail / SLOT) % slots
    local straight = SLOT * (slots - from)
    if tail ~= '' then call('SETRANGE', keys[counter], HEAD + SLOT * from, sub(tail, 1, straight)) end
    if #tail > straight then call('SETRANGE', keys[counter], HEAD, sub(tail, straight + 1)) end
    call('SETRANGE', keys[counter], '0', log_head(counter, FIRST[counter] % slots, slots))
    return true
  end

  local function log_expires(counter, term)
    return NEWEST[counter] + term.window
  end

  READ[2], OPEN[2], STEP[2], VALUES[2], EXPIRES[2] = read_log, open_log, log, log_value, log_expires
end
