-- Purpose: tells a replica the segment's decided end (Q2, Q5): blocks above it cease to exist.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 the version, 8 bytes; 3 the end: 12 bytes a producer: its id, its
--   last block; by rising id
-- Returns: ok | stranger, held | gone | stale, version | gap, frontier
-- Atomic: a reader sees the blocks above the end and no end, or the end.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
local version, ends = ARGV[2], ARGV[3]
refused = stale(r, version)
if refused then return refused end
local m, last = r.p .. ':m', {}
for at = 1, #ends, 12 do
  local producer, block = unpack('<c8I4', ends, at)
  local frontier = producer_of(r, producer)
  if frontier < block then return {'gap', frontier} end
  last[hex(producer)] = block
end
raise_version(r, version)
if r.sealed == 0 then
  call('HSET', m, 's', pack('<c8I8', NO_VERSION, now))
  call('UNLINK', r.p .. ':n')
end
r.sealed, r.told = 1, 1
call('UNLINK', r.p .. ':t')
local lowered = false
local all = call('HGETALL', m)
for at = 1, #all, 2 do
  local field, raw = all[at], all[at + 1]
  if field:sub(1, 1) == 'p' then
    local block = last[field:sub(2)] or 0
    local frontier, noted = unpack('<I4I4', raw)
    if block == 0 then
      call('HDEL', m, field)
      r.producers = r.producers - 1
    elseif block < frontier then
      call('HSET', m, field, pack('<I4I4', block, math.min(noted, block)))
    end
    lowered = lowered or block < frontier
  end
end
if lowered then
  walk(r, 0, function(_, i)
    if i.sent == DROPPED or i.block <= (last[hex(i.producer)] or 0) then return end
    local b = open_indexed(r, i)
    if b then
      for pos = 1, b.n do
        local _, state = record(b, pos)
        if state ~= 1 then end_messages(r, b, pos, pos) end
      end
    end
    i.sent = DROPPED
    put_index(r, i)
  end)
end
save_all(r)
return {'ok'}
