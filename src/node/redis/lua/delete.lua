-- Purpose: ends messages (Q8), under a condition (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 version, 8 bytes; 3 guard: 0 only unclaimed, 1 only claimed by,
--   2 always; 4 claim, 8 bytes, and 5 its rank, 12 bytes, for guard 1; 6 references, 13 bytes each
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

local function delete(producer, number, index)
  if awaits(r, producer, number) then
    remember_tombstone(r, pack('<c8I4B', producer, number, index))
    return '\0'
  end
  local b = open_block(r, producer, number)
  local pos = b and present(b, index)
  if not pos then return '\1' end
  local c = guard ~= '2' and holder(r, marks(r, b)[index])
  if guard == '0' and c then return '\2' end
  if guard == '1' then
    if not c then return '\3' end
    if c.key ~= key or c.rank ~= rank then return '\2' end
  end
  end_message(r, b, pos)
  return '\0'
end

each_ref(ARGV[6], function(producer, number, index)
  statuses[#statuses + 1] = delete(producer, number, index)
end)
save_all(r)
return {'ok', r.live, table.concat(statuses)}
