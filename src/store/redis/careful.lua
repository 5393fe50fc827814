-- The part of decide.lua that decides every request that isn't usual: all algorithms, admitted and refused. decide.lua
-- builds its functions only in a batch that has such a request, and of the algorithms only those that the batch has. It
-- sees decide.lua's locals. Rust twins: src/store/settle.rs, and for each algorithm the file of its name in src/algorithm.
--
-- A counter is opened once: its value is unpacked into the columns A to F, whose meaning depends on the algorithm. From
-- then on all requests work on the columns, in the order of the batch, and `write` packs them when all are decided.
-- WRITE[counter] says what changed: 0 nothing, 1 the header, 2 also what is behind the header. `write` changes these bytes
-- in place where the key lives long enough, else it sets the whole value with a new TTL; an empty counter's key is deleted.
--
-- `settle` decides one request. It tries each check in turn, so that two checks of one counter see each other. If the
-- request is denied, it restores all columns and charges only the checks with charge_denied; a check that was admitted
-- then reports the counter as it stays. Whether a check was admitted is always the result of the trial.
--
-- Invariants. (1) Between two requests, A is false exactly where the counter holds nothing. (2) Nothing is written before
-- `write`. (3) A value that can't be a counter's is counted as damaged, and the counter begins empty. (4) A counter from
-- more than a window ahead (Redis' clock was set back) is brought back to now, even by a denied request, or it would
-- refuse until then.
--
-- Example (script/tests.rs builds it and compares all bytes): a second after the one of decide.lua, on the same Redis.
-- user=a is given a hit back (term 1), path=/up is hit again though it is full, with charge_denied (term 2), and user=e
-- hits a token bucket of 2 per 10 s (term 3). The refund makes the count of sub-window 100 a pair and takes 1 from it. The
-- refused hit is charged: the fixed window's count is 2. The bucket's level is one hit, which is 2^20 units.
--   KEYS[1]  "tg1:{3}:sw10:10s:d:user=a"
--   KEYS[2]  "tg1:{3}:fw:10s:d:path=/up"
--   KEYS[3]  "tg1:{3}:tb:10s:d:user=e"
--   ARGV[1]  000000008d149841 0000000000000000 0000000000000000 ; now=101000000 deadline=0 logs=0
--            0000000000000000 000000000000f0bf 0000000000000000 ; algorithm=0 hits=-1 charged=0
--            0000000000000000 0000000000001440 00000000d0126341 ; role=0 requests=5 window=10000000
--            0000000000002440 0000000000001440 ; sub-windows=10 burst=5 (of no meaning here)
--            000000000000f03f 000000000000f03f 000000000000f03f ; algorithm=1 hits=1 charge_denied=1
--            0000000000000000 000000000000f03f 00000000d0126341 ; role=0 requests=1 window=10000000
--            0000000000004040 000000000000f03f ; sub-windows=32 burst=1 (of no meaning here)
--            0000000000000840 000000000000f03f 0000000000000000 ; algorithm=3 hits=1 charge_denied=0
--            0000000000000000 0000000000000040 00000000d0126341 ; role=0 requests=2 window=10000000
--            0000000000004040 0000000000000040 ; sub-windows=32 (of no meaning here) burst=2
--   ARGV[2]  0100 0100 04 00 0100 ; requests=1 repetitions=1 gate=4 checks-1=0 term=1
--            0100 0100 04 00 0200 ; requests=1 repetitions=1 gate=4 checks-1=0 term=2
--            0100 0100 04 00 0300 ; requests=1 repetitions=1 gate=4 checks-1=0 term=3
--   ARGV[3]  "tg1:refunds"
--   ARGV[4]  "tg1:{3}:sw10:10s:d:user=a"
--   reply    000000008d149841 0000000000000000 ; now=101000000 damaged=0
--            0000000000000000 0000000000000000 ; first-damaged=0 set-back=0
--            0000000000001040 00000000d0126341 ; a=4 reset=10000000
--            000000000000f0bf 00000000882a6141 ; up=-1 reset=9000000
--            000000000000f03f 00000000d0125341 ; e=1 reset=5000000
--   GET[1]   90dc01000000 65000000000000 00000000 0100000000 01 01 ; deadline=122000 index=101 count=0 sum=1 age=1 pairs=1
--            64 01000000 ; sub-window=100 count=1
--   GET[2]   c0d401000000 0a000000000000 02000000000000 ; deadline=120000 index=10 count=2
--   GET[3]   98b101000000 00001000000000 40230506000000 ; deadline=111000 level=1048576 time=101000000

local function careful()
  local U32 = 4294967295
  local UNIT = 1048576 -- units of one hit in which a bucket counts

  -- The columns. A is false for an empty counter. Each algorithm's file gives them names of its own.
  local A, B, C, D, E, F = {}, {}, {}, {}, {}, {}
  local DEADLINE = {} -- of the key, in ms since the epoch
  local TERM = {}     -- the term of the counter's last check; nil until the counter is opened
  local WRITE = {}    -- what changed: 0 nothing, 1 the header, 2 also what is behind it

  -- The columns before the request that `settle` is at, to be restored if it is denied.
  local A0, B0, C0, D0, E0, F0, WRITE0, SAVED, stamp = {}, {}, {}, {}, {}, {}, {}, {}, 0

  -- A log's damage may be found in the middle of a request, so the damaged columns must not be restored either.
  local function spoilt(counter)
    if damaged == 0 then first_damaged = counter end
    damaged = damaged + 1
    A[counter], WRITE[counter] = false, 0
    A0[counter], WRITE0[counter] = false, 0
    raw[counter] = false
  end

  -- Functions of each algorithm. OPEN unpacks a value; STEP decides a cost, and returns admitted, remaining and reset;
  -- VALUES packs the columns (a sliding window's pairs only on demand); EXPIRES returns when an absent key would mean the
  -- same. Logs, which MGET doesn't read, also have READ, and REWRITE, which writes in place and returns whether it could.
  local OPEN, STEP, VALUES, EXPIRES, READ, REWRITE, USES = {}, {}, {}, {}, {}, {}, {}

  -- `part` is the length of a sub-window in µs (of other algorithms the window), and `index` is the current one.
  local terms = {}
  for at = 25, #head, 64 do
    local algorithm, hits, charges, role, requests, window, sub_windows, burst = unpick('<dddddddd', head, at)
    local part = algorithm == 0 and -floor(-window / sub_windows) or window
    terms[#terms + 1] = {
      algorithm = algorithm, hits = hits, charges = charges == 1, charged = charges, role = role, requests = requests,
      window = window, sub_windows = sub_windows, burst = burst, part = part, index = floor(now / part),
    }
    USES[algorithm] = true
  end

  -- sliding.lua goes here
  -- fixed.lua goes here
  -- log.lua goes here
  -- bucket.lua goes here

  local function open(counter, term)
    if not TERM[counter] then
      WRITE[counter], DEADLINE[counter] = 0, 0
      A[counter], B[counter], C[counter], D[counter], E[counter], F[counter] = false, 0, 0, 0, '', 0
      if READ[term.algorithm] then raw[counter] = READ[term.algorithm](counter) end
      if raw[counter] then OPEN[term.algorithm](counter, raw[counter]) end
    end
    TERM[counter] = term
  end

  -- Requests: src/store/settle.rs.

  local function answer(admitted, remaining, reset)
    answers[answered + 1] = admitted and remaining or -1 - remaining
    answers[answered + 2] = reset
    answered = answered + 2
    return admitted
  end

  -- Repeats the last `count` numbers of the answers, `times` times.
  local function repeat_answers(count, times)
    for _ = 1, times * count do
      answered = answered + 1
      answers[answered] = answers[answered - count]
    end
  end

  -- Decides one request over `checks`, a list of counters and terms in turn. Returns whether deciding it again would change
  -- nothing, so that its answers can be repeated.
  local function settle(checks, gate)
    stamp = stamp + 1
    local size, admitted, ahead0, first = #checks, {}, ahead, answered
    local refused, charges, quotas, quotas_refused = false, false, 0, 0
    for i = 1, size, 2 do
      local counter, term = checks[i], checks[i + 1]
      open(counter, term)
      if SAVED[counter] ~= stamp then
        SAVED[counter] = stamp
        A0[counter], B0[counter], C0[counter], WRITE0[counter] = A[counter], B[counter], C[counter], WRITE[counter]
        D0[counter], E0[counter], F0[counter] = D[counter], E[counter], F[counter]
      end
      local passed = answer(STEP[term.algorithm](counter, term, term.hits))
      admitted[i] = passed
      if term.charges then charges = true end
      if term.role == 0 then
        refused = refused or not passed
      elseif term.role == 1 then
        quotas = quotas + 1
        if not passed then quotas_refused = quotas_refused + 1 end
      end
    end
    if gate < 8 and (gate >= 2 or not (refused or (gate % 2 == 0 and quotas > 0 and quotas == quotas_refused))) then
      return false
    end
    -- A counter from the future must come back to now even if its request is denied, or it would refuse until then.
    local shifted = ahead ~= ahead0
    ahead = ahead0
    for i = 1, size, 2 do
      local counter = checks[i]
      A[counter], B[counter], C[counter], WRITE[counter] = A0[counter], B0[counter], C0[counter], WRITE0[counter]
      D[counter], E[counter], F[counter] = D0[counter], E0[counter], F0[counter]
    end
    for i = 1, size, 2 do
      local counter, term = checks[i], checks[i + 1]
      if term.charges or admitted[i] or shifted then
        local _, remaining, reset = STEP[term.algorithm](counter, term, term.charges and term.hits or 0)
        if admitted[i] then
          answers[first + i], answers[first + i + 1] = remaining, reset
        end
      end
    end
    return not charges
  end

  -- Decides a request with one check that isn't denied elsewhere, `times` times.
  local function one(counter, term, times)
    local step, hits = STEP[term.algorithm], term.hits
    open(counter, term)
    for i = 1, times do
      local admitted = answer(step(counter, term, hits))
      if i < times and (hits == 0 or not (admitted or term.charges)) then
        return repeat_answers(2, times - i)
      end
    end
  end

  -- Decides any request, `times` times.
  local function several(checks, times, gate)
    for i = 1, times do
      if settle(checks, gate) and i < times then
        return repeat_answers(#checks, times - i)
      end
    end
  end

  -- Writes what changed: in place if the key lives long enough, else the whole value with a new TTL.
  local function write(create)
    for counter = 1, total do
      local term, write = TERM[counter], WRITE[counter]
      local algorithm = term and term.algorithm
      local expires = term and A[counter] and (write > 0 or algorithm >= 3) and EXPIRES[algorithm](counter, term)
      -- A lowered limit makes a bucket drain for longer than its key would live.
      if expires and write == 0 and raw[counter] and DEADLINE[counter] * 1000 < expires then write = 1 end
      if term and write > 0 then
        if not expires then
          if raw[counter] then call('DEL', keys[counter]) end
        elseif raw[counter] and REWRITE[algorithm] and REWRITE[algorithm](counter, expires) then
          -- Written in place.
        elseif raw[counter] and not REWRITE[algorithm]
          and DEADLINE[counter] * 1000 >= expires + slack(expires - now) then
          call('SETRANGE', keys[counter], '0', VALUES[algorithm](counter, term, write > 1))
        else
          DEADLINE[counter] = new_deadline(expires)
          local failed = create(counter, VALUES[algorithm](counter, term, true), DEADLINE[counter] - floor(now / 1000))
          if failed then return failed end
        end
      end
    end
  end

  return one, several, write, terms
end
