-- Purpose: refuses appends from now on; the first sealer is remembered (Q1, Q2).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 the sealer, 8 bytes
-- Returns: ok, coverage | stranger, held | gone
-- Atomic: the frontier told is the last one: nothing is taken after it.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
if r.sealed == 0 then
  r.sealed = 1
  call('UNLINK', r.p .. ':n')
  call('HSET', r.p .. ':m', 's', pack('<c8I8', ARGV[2], now))
  save_replica(r)
end
return {'ok', coverage(r)}
