-- Purpose: creates an empty replica (Q9: a replica exists only through this).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 role: 0 appending, 1 joining; 3 what it is a replica of
-- Returns: ok | stranger, held | exists
-- Atomic: two opens of one placement must not both succeed.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local prefix, role, of = KEYS[2], tonumber(ARGV[2]), ARGV[3]
if call('EXISTS', prefix .. ':m', prefix .. ':z') > 0 then return {'exists'} end
local r = {p = prefix, role = role, sealed = role, told = 0, producers = 0, arrived = 0, bytes = 0,
  live = 0, held = 0, minexp = NEVER, maxexp = 0, cursor = 0, picks = 0, first = 0,
  weight = 0, waste = 0}
call('HSET', prefix .. ':m', 'h', numbers(r), 'of', of)
if role == 1 then call('HSET', prefix .. ':m', 's', pack('<c8I8', NO_VERSION, now)) end
call('ZADD', prefix:sub(1, -17) .. 'due', now + 600000, prefix:sub(-16))
return {'ok'}
