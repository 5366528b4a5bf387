-- Purpose: accepts a value (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 name; 4 ballot, 16 bytes; 5 value; 6 project; 7 queue;
--   8 listed (0, 1, or empty: as before)
-- Returns: ok | stranger, held | notkeeper | epoch, epoch, keepers | ballot, promised
-- Atomic: the value, its place in the index and in the log of changes are one change.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
local name, ballot = ARGV[3], ARGV[4]
local promised = call('HGET', base .. 'r:' .. name, 'promised')
if promised and below(ballot, promised) then return {'ballot', promised} end
call('HSET', base .. 'r:' .. name, 'promised', ballot)
take(base, name, ballot, ARGV[5], ARGV[6], ARGV[7], ARGV[8])
return {'ok'}
