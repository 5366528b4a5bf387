-- Purpose: removes a replica, a bounded part at a time; it is gone from the first call on (Q9).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 blocks to remove at most
-- Returns: ok, done (0 or 1) | stranger, held
-- Atomic: nobody sees half of a replica.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local prefix, limit = KEYS[2], tonumber(ARGV[2])
local r = load_replica(prefix)
local from = 0
if r then
  call('UNLINK', prefix .. ':m', prefix .. ':a', prefix .. ':w', prefix .. ':y', prefix .. ':d',
    prefix .. ':c', prefix .. ':x', prefix .. ':t')
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
