-- Purpose: removes a replica, a bounded part at a time; it is gone from the first call on (Q9).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 blocks to remove at most
-- Returns: ok, done (0 or 1) | stranger, held
-- Atomic: nobody sees half of a replica.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local prefix, limit, LATE = KEYS[2], tonumber(ARGV[2]), 16
local r = load_current(prefix)
local from = 0
if r then
  -- Blocks that came too late to be taken, from producers that died before they could tell.
  local all = call('HGETALL', prefix .. ':m')
  for at = 1, #all, 2 do
    if all[at]:sub(1, 1) == 'p' then
      local name, last = prefix .. ':b:' .. all[at]:sub(2) .. ':', (unpack('<I4', all[at + 1]))
      for number = last + 1, last + LATE do call('UNLINK', name .. number) end
    end
  end
  call('UNLINK', prefix .. ':m', prefix .. ':a', prefix .. ':w', prefix .. ':y', prefix .. ':d',
    prefix .. ':c', prefix .. ':x', prefix .. ':t', prefix .. ':n')
  call('ZREM', prefix:sub(1, -17) .. 'due', prefix:sub(-16))
else
  from = tonumber(call('GET', prefix .. ':z') or 0)
  r = {p = prefix}
end
r.arrived = call('STRLEN', prefix .. ':i') / INDEX_LEN
local removed, ord = 0, from
walk(r, from, function(at, i)
  if removed == limit then return true end
  if i.sent ~= DROPPED then removed = removed + 1 end
  if i.live > 0 then call('UNLINK', block_key(r, i)) end
  call('UNLINK', prefix .. ':o:' .. hex(i.producer))
  ord = at + 1
end)
if ord < r.arrived then
  call('SET', prefix .. ':z', ord)
  return {'ok', 0}
end
call('UNLINK', prefix .. ':i', prefix .. ':z')
return {'ok', 1}
