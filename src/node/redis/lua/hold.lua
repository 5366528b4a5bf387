-- Purpose: marks for claims what was picked for them on another replica (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; then for each claim six: version, 8 bytes; claim, 8 bytes; rank, 12
--   bytes; ttl; grace; references, 14 bytes a run
-- Returns: for each claim: ok, statuses (a byte for each: 0 held, 1 outranked, 2 ended) |
--   stranger, held | gone | open | endunknown | stale, version
-- Atomic: of two claims on one message the higher rank wins in whatever order they come.
local r = not refused and load_replica(KEYS[2])
refused = refused or not r and {'gone'} or not_ended_or_joining(r)
local key, rank, ends, till, statuses, places, held

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

local function hold(producer, number, first, last)
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
end

local function hold_all(version, ttl, grace, refs)
  raise_version(r, version)
  ends, till = now + ttl, now + ttl + grace
  statuses, places, held = {}, {}, false
  each_run(refs, hold)
  if held then
    local c = start_claim(r, key, rank, ttl, ends)
    for _, at in ipairs(places) do mark(r, at[1], at[2], at[3], c, till) end
    settle_claim(r, c)
  end
  return {'ok', table.concat(statuses)}
end

local changed = false
for at = at, #ARGV, 6 do
  local reply = refused or stale(r, ARGV[at])
  if not reply then
    key, rank = ARGV[at + 1], ARGV[at + 2]
    reply = hold_all(ARGV[at], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), ARGV[at + 5])
    changed = true
  end
  replies[#replies + 1] = reply
end
if changed then save_all(r) end
return replies
