-- Purpose: lets a keeper vote from now on (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch
-- Returns: ok | stranger, held | notkeeper | epoch, epoch, keepers
-- Atomic: only for the epoch for which it was restored.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], false)
if refused then return refused end
call('HSET', KEYS[2], 'active', 1)
return {'ok'}
