-- Purpose: ends messages (Q8), under conditions (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; then for each delete five: version, 8 bytes; guard: 0 only unclaimed,
--   1 only claimed by, 2 always; claim, 8 bytes, and its rank, 12 bytes, for guard 1; references,
--   14 bytes a run
-- Returns: for each delete: ok, live, statuses (a byte for each: 0 ended, 1 absent, 2 claimed,
--   3 not claimed) | stranger, held | gone | open | endunknown | stale, version
-- Atomic: nobody claims the message between the look and its end.
local r = not refused and load_replica(KEYS[2])
refused = refused or not r and {'gone'} or not_ended_or_joining(r)
local guard, key, rank, statuses

-- What the guard says of messages that are marked so.
local function judge(m)
  local c = guard ~= '2' and holder(r, m)
  if guard == '0' and c then return '\2' end
  if guard == '1' and not c then return '\3' end
  if guard == '1' and (c.key ~= key or c.rank ~= rank) then return '\2' end
  return '\0'
end

local function delete(producer, number, first, last)
  if awaits(r, producer, number) then
    for index = first, last do
      remember_tombstone(r, pack('<c8I4B', producer, number, index))
      statuses[#statuses + 1] = '\0'
    end
    return
  end
  local b = open_block(r, producer, number)
  each_alike(r, b, first, last, function(n, pos, m)
    local status = pos and judge(m) or '\1'
    if status == '\0' then end_messages(r, b, pos, pos + n - 1) end
    statuses[#statuses + 1] = status:rep(n)
  end)
end

local changed = false
for at = at, #ARGV, 5 do
  local reply = refused or stale(r, ARGV[at])
  if not reply then
    raise_version(r, ARGV[at])
    guard, key, rank, statuses = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], {}
    each_run(ARGV[at + 4], delete)
    reply, changed = {'ok', r.live, table.concat(statuses)}, true
  end
  replies[#replies + 1] = reply
end
if changed then save_all(r) end
return replies
