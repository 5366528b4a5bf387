-- Purpose: promises to accept nothing below a ballot (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 name; 4 ballot, 16 bytes
-- Returns: ok, accepted or empty, value | stranger, held | notkeeper | epoch, epoch, keepers |
--   ballot, promised
-- Atomic: a promise and what had been accepted before belong together.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
local name, ballot = ARGV[3], ARGV[4]
local key = base .. 'r:' .. name
local held = call('HMGET', key, 'promised', 'accepted', 'value')
if not below(held[1] or NO_BALLOT, ballot) then return {'ballot', held[1] or NO_BALLOT} end
call('HSET', key, 'promised', ballot)
call('ZADD', base .. 'names', 0, name)
return {'ok', held[2] or '', held[3] or ''}
