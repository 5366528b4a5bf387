-- Purpose: does not name the replica as due before a time.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 milliseconds from now
-- Returns: ok | stranger, held | gone
-- Atomic: one that is gone stays so.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
call('ZADD', r.p:sub(1, -17) .. 'due', 'XX', now + tonumber(ARGV[2]), r.p:sub(-16))
return {'ok'}
