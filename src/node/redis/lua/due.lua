-- Purpose: names replicas that somebody should look at, earliest first.
-- KEYS: 1 string, the cookie; 2 sorted set, placement by time
-- ARGV: 1 the cookie wanted; 2 limit
-- Returns: ok, {placement, what it is a replica of, ...} | stranger, held
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local due, found = KEYS[2], {}
local base = due:sub(1, -4)
for _, placement in ipairs(call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = placement
  found[#found + 1] = call('HGET', base .. placement .. ':m', 'of') or ''
end
return {'ok', found}
