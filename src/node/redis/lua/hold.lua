-- Purpose: marks for a claim what was picked on another replica (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 version, 8 bytes; 3 claim, 8 bytes; 4 rank, 12 bytes; 5 ttl;
--   6 grace; 7 references, 14 bytes a run
-- Returns: ok, statuses (a byte for each: 0 held, 1 outranked, 2 ended) | stranger, held | gone |
--   open | endunknown | stale, version
-- Atomic: of two claims on one message the higher rank wins in whatever order they come.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local version, key, rank = ARGV[2], ARGV[3], ARGV[4]
local ttl, grace = tonumber(ARGV[5]), tonumber(ARGV[6])
refused = not_ended_or_joining(r) or stale(r, version)
if refused then return refused end
raise_version(r, version)
local ends, till = now + ttl, now + ttl + grace
local statuses, places, held = {}, {}, false

-- 0 take, 1 outranked, 3 the claim's own already.
local function judge(m)
  if not m then return 0 end
  if m.released == 0 and m.claim == key and m.rank == rank then return 3 end
  if not below(m.rank, rank) or holder(r, m) then return 1 end
  return 0
end

local function hold_awaited(producer, number, index)
  local ref = pack('<c8I4B', producer, number, index)
  local w = pending(r, ref)
  if w and w.kind == 0 then return 2 end
  local verdict = judge(w)
  if verdict == 1 then return 1 end
  local times = w and w.times or 0
  if verdict == 0 then times = times + 1 end
  remember(r, ref, {kind = 1, claim = key, rank = rank, times = times, ends = ends, till = till})
  return 0
end

local function answer(status, n)
  held = held or status == 0
  statuses[#statuses + 1] = string.char(status):rep(n)
end

each_run(ARGV[7], function(producer, number, first, last)
  if awaits(r, producer, number) then
    for index = first, last do answer(hold_awaited(producer, number, index), 1) end
    return
  end
  local b = open_block(r, producer, number)
  each_alike(r, b, first, last, function(n, pos, m)
    local status = not pos and 2 or judge(m) == 1 and 1 or 0
    if status == 0 then places[#places + 1] = {b, pos, pos + n - 1} end
    answer(status, n)
  end)
end)
if held then
  local c = start_claim(r, key, rank, ttl, ends)
  for _, at in ipairs(places) do mark(r, at[1], at[2], at[3], c, till) end
  settle_claim(r, c)
end
save_all(r)
return {'ok', table.concat(statuses)}
