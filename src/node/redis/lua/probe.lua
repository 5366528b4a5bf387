-- Purpose: tells what the replica covers and whether it is sealed (Q2, Q5).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted
-- Returns: ok, coverage | stranger, held | gone
-- Atomic: a frontier counts only together with the seal's state at that moment.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
return {'ok', coverage(r)}
