-- Purpose: ends messages (Q8), under a condition (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 version, 8 bytes; 3 guard: 0 only unclaimed, 1 only claimed by,
--   2 always; 4 claim, 8 bytes, and 5 its rank, 12 bytes, for guard 1; 6 references, 14 bytes a run
-- Returns: ok, live, statuses (a byte for each: 0 ended, 1 absent, 2 claimed, 3 not claimed) |
--   stranger, held | gone | open | endunknown | stale, version
-- Atomic: nobody claims the message between the look and its end.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local version, guard, key, rank = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
refused = not_ended_or_joining(r) or stale(r, version)
if refused then return refused end
raise_version(r, version)
local statuses = {}

-- What the guard says of messages that are marked so.
local function judge(m)
  local c = guard ~= '2' and holder(r, m)
  if guard == '0' and c then return '\2' end
  if guard == '1' and not c then return '\3' end
  if guard == '1' and (c.key ~= key or c.rank ~= rank) then return '\2' end
  return '\0'
end

each_run(ARGV[6], function(producer, number, first, last)
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
end)
save_all(r)
return {'ok', r.live, table.concat(statuses)}
